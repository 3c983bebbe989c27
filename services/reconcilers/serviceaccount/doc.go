// Package serviceaccount gives every namespace what pods in it need to reach the API: the ServiceAccount
// "default" ([Accounts]) and the ConfigMap "kube-root-ca.crt" ([RootCA]). Both are made again where somebody
// deletes or changes them, until the namespace is being deleted.
package serviceaccount
