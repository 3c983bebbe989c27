// Package access is the ledger of who holds which credential: client certificates of the Kubernetes API, and
// keys of the log's NATS server.
//
// The record of every one is a CertificateSigningRequest, an ordinary object on the log, so that who asked,
// who approved, who revoked and when is in its history, and RBAC says who may (the verb approve on the
// signer). A key of the log is Ed25519, so its request is a certificate request as any other; no certificate
// comes of it: approving it is what lets the key in. Private keys never leave who made them.
//
// Revoking is a condition on the request, Revoked, given by whoever may approve. It is of the key, and for
// ever: the ledger is folded from every event about requests since the first, so neither taking the condition
// back nor deleting the request lets the key in again. Deleting a request of the log's ends its access, too;
// a certificate that is out is not touched by that.
//
// How data passes through: [Ledger.Run] watches a projection that keeps history, folds each change, and tells
// those who asked by [Ledger.Changed]. It writes nothing.
package access
