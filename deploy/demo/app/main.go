// Command app is the demo's workload: a web server that says which pod answered and in which version.
//
//	GET /         "hello from <hostname>, version <version>"
//	GET /healthz  200 once the server is up
//	GET /crash    ends the process with exit code 3
//
// For exec in a container that has no shell, "demo-web version" prints the version, and "demo-web get URL" asks
// a URL and prints the answer.
// The version is the environment's VERSION, or the one compiled in with -X main.version.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

var version = "1.0"

func main() {
	host, err := os.Hostname()
	if err != nil {
		log.Fatalf("hostname: %v", err)
	}
	v := cmp.Or(os.Getenv("VERSION"), version)
	switch {
	case len(os.Args) == 2 && os.Args[1] == "version":
		fmt.Println("version", v)
		return
	case len(os.Args) == 3 && os.Args[1] == "get":
		if err := get(os.Args[2]); err != nil {
			log.Fatal(err)
		}
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
		fmt.Fprintf(w, "hello from %s, version %s\n", host, v)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /crash", func(http.ResponseWriter, *http.Request) { os.Exit(3) })

	server := &http.Server{Addr: cmp.Or(os.Getenv("LISTEN"), ":8080"), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ctx.Done()
		log.Print("told to stop")
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(end); err != nil {
			log.Printf("shutdown: %v", err)
		}
	}()
	log.Printf("version %s listening on %s", v, server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

func get(url string) error {
	client := http.Client{Timeout: 3 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	_, err = io.Copy(os.Stdout, res.Body)
	return err
}
