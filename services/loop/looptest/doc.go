// Package looptest tests deciders: golden histories in which objects go in and a printed decision comes
// out, and a [World] in which decisions take effect, on the real log in memory and a real projection, with
// a clock that tests move.
//
// It stands in for the gateway only in what any API server does to a write (uid, generation, timestamps,
// graceful deletion of pods); it admits and defaults nothing.
package looptest
