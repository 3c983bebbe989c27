// Package spec works out what one container of a pod should run with: environment, command, user, files such as
// /etc/hosts and /etc/resolv.conf, resource limits and quality of service. It turns a pod's wishes, an image's
// configuration and the node's knowledge into plain values.
//
// It is pure but for looking up users in an image's layers. The agent gathers the inputs and hands the results to
// the runtime.
package spec
