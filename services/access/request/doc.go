// Package request reads and makes the CertificateSigningRequests that the ledger of access is folded from. It
// stands apart from the ledger so that who only asks need not link a projection. It is pure but for the random
// numbers of a new request's signature.
package request
