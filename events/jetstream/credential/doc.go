// Package credential is the file with which a client of the log says who it is, and knows whom it talks to.
//
// The file has a line with the seed of a user's nkey, and after it the certificate of the authority that the
// server's is checked against. So one file is all that a client is handed, and common NATS clients take it as
// it is, for both: nats --nkey FILE --tlsca FILE. A file without certificates is as good where the server's
// certificate is of an authority that the system knows.
//
// It stands apart from its parent so that who only makes and reads such files need not link a NATS server.
// It touches nothing but the files named to it.
package credential
