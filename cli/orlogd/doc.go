// Command orlogd is Orlog's control plane in one process: the log (NATS JetStream, embedded unless
// --nats-url names a cluster), the gateway, the scheduler, the reconcilers and the notary, each with its own
// projection; with --agent also this machine's node agent.
//
// The embedded log asks everybody for credentials. They are made at the first start, in data-dir/nats: orlogd's
// own (everything), this machine's agent's (--node-credentials) and integrators' (--integrator-credentials,
// reading only). An external cluster's are its operator's affair: see --nats-credentials.
//
// It owns --data-dir, which one orlogd at a time may use. Order matters at the start: the log opens first,
// checked against every projection that exists (a log that is behind what was projected from it is not the
// same log, and is refused); then each projection catches up; then the services start. At the end the
// services stop before what they read from.
package main
