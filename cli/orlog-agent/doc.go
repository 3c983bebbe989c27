// Command orlog-agent is a node: it runs the pods that the log binds to it.
//
// "orlog-agent" runs until it is told to stop, and leaves the pods running. "orlog-agent reset" ends all pods
// of a data folder and takes every trace of the node off the host.
package main
