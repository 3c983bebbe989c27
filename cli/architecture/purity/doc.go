// Package purity finds what makes a decision depend on anything but its arguments: clocks, chance, files and
// the network, goroutines, and the order of a map.
//
// Folding and deciding must give the same result whenever and wherever they are done again: in the simulator,
// in a replay, after a restart. [Check] takes one type-checked package and returns the places that put this in
// doubt. calls.go knows the functions that reach outside; maps.go and places.go say which loops over a map can do with any
// order: those that only fill another map, count, delete, ask whether there is one at all, or collect what is
// sorted afterwards. Of any other the author says why the order cannot be seen, in a comment on the loop:
//
//	for key, value := range m { // order does not matter: each object is written by its own key
//
// It reads syntax and types alone and follows no calls: what a decider calls is checked in its own package.
package purity
