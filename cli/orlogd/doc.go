// Command orlogd is Orlog's control plane in one process: the log (NATS JetStream, embedded unless
// --nats-url names a cluster), the gateway, the scheduler, the reconcilers and the notary, each with its own
// projection; with --agent also this machine's node agent.
//
// The embedded log speaks TLS, and asks everybody for credentials. Some are made at the first start, in
// data-dir/nats: orlogd's own (everything), this machine's agent's (--node-credentials) and an integrator's
// (--integrator-credentials, reading only). Others come and go while orlogd runs, as requests are approved and
// revoked (services/access, doorman.go); the port opens when it is known who may come in. An external cluster's
// are its operator's affair: see --nats-credentials and --nats-ca.
//
// Several orlogds on one external cluster all serve the API; one of them at a time schedules, and one reconciles
// (leader.go): who holds the leases kube-scheduler and kube-controller-manager in kube-system. All of them follow the
// log, so that who takes over knows all. The log inside an orlogd is for that one: more on it are --gateway-only.
//
// It owns --data-dir, which one orlogd at a time may use. Order matters at the start: the log opens first,
// checked against every projection that exists (a log that is behind what was projected from it is not the
// same log, and is refused); then each projection catches up; then the services start. At the end the
// services stop before what they read from.
package main
