package schemas

import (
	"embed"
	"io/fs"
)

// EventID is the $id of the schema of an event, version 1, and the ce-dataschema of every event.
const EventID = "https://orlog.io/schemas/event/v1.json"

//go:embed event/v1.json asyncapi.yaml examples/*.json released
var files embed.FS

// Event is the JSON Schema (2020-12) of an event in structured mode.
func Event() []byte { return read("event/v1.json") }

// AsyncAPI is the AsyncAPI 3.0 document of the log's channels, as YAML.
func AsyncAPI() []byte { return read("asyncapi.yaml") }

// Examples holds one event a file, <sequence>-<kind>-<verb>.json, in structured mode.
func Examples() fs.FS {
	sub, err := fs.Sub(files, "examples")
	if err != nil {
		panic("schemas: " + err.Error()) // the folder is embedded
	}
	return sub
}

// Released holds the contract as it was promised with a release: event-v1.json (the schema), examples (events)
// statements.txtar (what updates are told as) and vocabulary.txt (the words for it). Nothing in it is ever changed; a release may add to it.
func Released() fs.FS {
	sub, err := fs.Sub(files, "released")
	if err != nil {
		panic("schemas: " + err.Error()) // the folder is embedded
	}
	return sub
}

func read(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		panic("schemas: " + err.Error()) // the file is embedded
	}
	return b
}
