// Package namespace empties namespaces that are being deleted, and lets go of them when nothing is left.
//
// Deleting a namespace through the API only marks it. Decide then deletes whatever the projection knows in
// it, first pods, then any resource, custom ones included (an object's own apiVersion says how to reach it); pods stop
// gracefully, finalizers are waited for. When the namespace is empty its finalizer "kubernetes" is removed
// through the finalize subresource, upon which the gateway removes the namespace.
package namespace
