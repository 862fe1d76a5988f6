// What a user of the npm package `consul` does, unchanged; prints the answers as one JSON object.
const Consul = require("consul");

const [host, port, root, node] = process.argv.slice(2);
const as = (token) => new Consul({ host, port, secure: true, defaults: { token } });
const answers = {};

async function refused(call) {
  try {
    await call();
    return "it was not refused";
  } catch (error) {
    return [error.statusCode, String(error.response ? error.response.body : error.message)];
  }
}

async function changed(client) {
  const watch = client.watch({ method: client.kv.get, options: { key: "npm/a" }, backoffFactor: 10 });
  const seen = [];
  await new Promise((resolve, reject) => {
    watch.on("error", reject);
    watch.on("change", (data) => {
      seen.push(data && data.Value);
      if (seen.length === 1) client.kv.set("npm/a", "2").catch(reject);
      else resolve();
    });
  });
  watch.end();
  return seen;
}

async function checked(client) {
  const states = [];
  for (const verb of ["warn", "fail", "pass"]) {
    await client.agent.check[verb]({ id: "beat", note: verb });
    states.push((await client.health.checks("npm"))[0].Status);
  }
  return states;
}

async function registered(client) {
  await client.catalog.register({ node: "npm-host", address: "10.0.0.77", service: { service: "far", id: "far1", port: 81, tags: ["v2"] } });
  const seen = Object.values((await client.catalog.node.services("npm-host")).Services).map((row) => [row.Service, row.Port]);
  await client.catalog.deregister({ node: "npm-host", serviceid: "far1" });
  await client.catalog.deregister("npm-host");
  return [seen, (await client.catalog.node.list()).map((row) => row.Node)];
}

async function maintained(client) {
  await client.agent.maintenance({ enable: true, reason: "disk" });
  const notes = (await client.health.node("host1")).map((row) => row.Notes).filter((text) => text);
  await client.agent.maintenance(false);
  return [notes, (await client.health.state("critical")).length];
}

async function main() {
  const operator = as(root), host1 = as(node);
  await operator.catalog.node.list();
  await host1.agent.service.register({ name: "npm", id: "npm1", port: 80, tags: ["v1"], meta: { team: "a" } });
  answers.agent = Object.keys(await host1.agent.service.list());
  answers.services = (await operator.catalog.service.list()).npm;
  answers.nodes = (await operator.catalog.service.nodes("npm")).map((row) => [row.Node, row.ServicePort]);
  answers.health = (await host1.health.service({ service: "npm", passing: true, filter: 'Service.Meta.team == "a"' })).length;
  await host1.agent.check.register({ name: "beat", id: "beat", serviceid: "npm1", ttl: "1h" });
  await host1.agent.check.pass("beat");
  answers.checks = Object.values(await host1.agent.check.list()).map((row) => [row.ServiceID, row.Status]);
  answers.checked = await checked(host1);
  answers.maintained = await maintained(host1);
  await host1.agent.check.deregister("beat");
  answers.unchecked = (await host1.health.checks("npm")).length;
  answers.registered = await registered(operator);
  answers.datacenters = await operator.catalog.datacenters();
  answers.self = (await host1.agent.self()).Config.NodeName;
  await operator.kv.set("npm/a", "1");
  answers.value = (await operator.kv.get("npm/a")).Value;
  answers.keys = await operator.kv.keys("npm");
  answers.values = (await operator.kv.get({ key: "npm", recurse: true })).map((row) => row.Value);
  answers.nothing = await operator.kv.get("npm/nothing");
  answers.cas = Boolean(await operator.kv.set({ key: "npm/a", value: "x", cas: "0" })); // it gives undefined for false
  answers.watched = await changed(operator);
  answers.deleted = await operator.kv.del({ key: "npm", recurse: true });
  answers.leader = await operator.status.leader();
  answers.peers = await operator.status.peers();
  await host1.agent.service.deregister("npm1");
  answers.gone = (await operator.catalog.service.nodes("npm")).length;
  answers.event = await refused(() => operator.event.fire("deploy"));
  answers.session = await refused(() => operator.session.create());
  answers.check = await refused(() => host1.agent.check.register({ name: "x", script: "/bin/true", interval: "10s" }));
  answers.stranger = await refused(() => host1.kv.set("npm/a", "1"));
  console.log(JSON.stringify(answers));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
