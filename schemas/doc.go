// Package schemas is the contract in data, for those who read the log without this code: the JSON Schema of
// an event, the AsyncAPI description of the channels, and example events.
//
// Others' programs depend on the contract, so it only grows: released/ holds what has been promised, and tests here,
// in events and in services/gateway/storage refuse a change that would break who wrote to it or reads by it.
// What breaks is a new version beside the old: event/v2.json, and a new ce-dataschema.
//
// It imports nothing of Orlog, does no I/O, and is embedded, so that a program can serve or check the
// contract that it was built with. How data passes through: it does not; the files are the point. A test in
// events holds them and the code against each other.
package schemas
