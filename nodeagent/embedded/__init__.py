"""The embedded catalog server: Consul's HTTP API over SQLite, with tokens and the CA, for those without a Consul.

refusal names access keys body registration entries intentions answers          decisions and shapes (pure)
database registrations config_entries values tokens claims authority       what SQLite holds, one family of tables each
store watchers pace asking *_api routes app                                requests: watch, read, write, answer
archive restore                                                            the whole of it as a file, and back
datadir tls serve                                                          the process
"""
