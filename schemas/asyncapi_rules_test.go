//go:build asyncapi

package schemas_test

import (
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/schemas"
)

// TestAsyncAPIRules holds the document against AsyncAPI 3.0's own JSON Schema, which deploy/checks/asyncapi fetches.
func TestAsyncAPIRules(t *testing.T) {
	path := os.Getenv("ORLOG_ASYNCAPI_SCHEMA")
	if path == "" {
		t.Fatal("ORLOG_ASYNCAPI_SCHEMA does not name AsyncAPI's schema: run deploy/checks/asyncapi")
	}
	rules, err := jsonschema.NewCompiler().Compile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(schemas.AsyncAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if err := rules.Validate(doc); err != nil {
		t.Error(err)
	}
	delete(doc["channels"].(map[string]any)["desired"].(map[string]any), "address")
	doc["channels"].(map[string]any)["desired"].(map[string]any)["adress"] = "x"
	if rules.Validate(doc) == nil {
		t.Error("a misspelt field was accepted")
	}
}
