"""The embedded catalog server: Consul's HTTP API over SQLite, with tokens and the CA, for those without a Consul.

refusal, access, body, registration, entries, intentions, answers    decisions and shapes (pure)
database, registrations, config_entries, values, tokens, authority   what SQLite holds, one table family each
store, blocking, asking, *_api, app                                  requests: watch, read, write, answer
datadir, tls, serve                                                  the process
"""
