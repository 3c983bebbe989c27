// Command orlog-shim supervises the containers of one pod. The node agent starts it, one for each pod, in the
// pod's folder and with the listening socket as file descriptor 3; nobody calls it by hand.
//
//	orlog-shim <pod uid> [<host name>]   the supervisor
//	orlog-shim pause                     the first process of a shared PID namespace
//
// Everything it does is in node/shim.
package main

import (
	"fmt"
	"os"

	"github.com/orlog-io/orlog/node/shim"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "pause" {
		shim.Pause()
		return
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: orlog-shim <pod uid> [<host name>]: started by the node agent")
		os.Exit(2)
	}
	hostname := ""
	if len(os.Args) > 2 {
		hostname = os.Args[2]
	}
	if err := shim.Serve(hostname); err != nil {
		fmt.Fprintln(os.Stderr, "orlog-shim:", err)
		os.Exit(1)
	}
}
