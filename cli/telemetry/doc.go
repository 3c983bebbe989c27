// Package telemetry is what the binaries tell about themselves: where their metrics are listened for beside the
// Kubernetes API, and where their traces are sent. It reads the settings, makes the OpenTelemetry provider that the
// components make their spans with, and serves a registry that they registered their metrics in.
package telemetry
