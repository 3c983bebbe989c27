package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/orlog-io/orlog/node/volume/downward"
)

// ConfigError is a mistake or a gap in a pod's configuration that keeps a container from being made: it waits with
// CreateContainerConfigError.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

func configErrorf(format string, args ...any) error {
	return &ConfigError{fmt.Errorf(format, args...)}
}

// Sources is where an environment's values come from. A missing object is an error that apierrors.IsNotFound
// recognises.
type Sources interface {
	ConfigMap(namespace, name string) (*v1.ConfigMap, error)
	Secret(namespace, name string) (*v1.Secret, error)
}

// Var is one environment variable.
type Var struct{ Name, Value string }

// environment is a list of variables in which a later value replaces an earlier one of the same name, in place.
type environment struct {
	vars  []Var
	index map[string]int
}

func (e *environment) set(name, value string) {
	if i, has := e.index[name]; has {
		e.vars[i].Value = value
		return
	}
	e.index[name] = len(e.vars)
	e.vars = append(e.vars, Var{name, value})
}

func (e *environment) get(name string) (string, bool) {
	i, has := e.index[name]
	if !has {
		return "", false
	}
	return e.vars[i].Value, true
}

// Env is a container's environment: envFrom, then env, then the services' variables where none of that name is
// set. Errors are *ConfigError.
func Env(c *v1.Container, fields downward.Fields, src Sources, services []Var) ([]Var, error) {
	env := &environment{index: map[string]int{}}
	for i := range c.EnvFrom {
		if err := envFrom(env, &c.EnvFrom[i], fields.Pod.Namespace, src); err != nil {
			return nil, err
		}
	}
	byService := map[string]string{}
	for _, v := range services {
		byService[v.Name] = v.Value
	}
	lookup := func(name string) (string, bool) {
		if v, has := env.get(name); has {
			return v, true
		}
		v, has := byService[name]
		return v, has
	}
	for i := range c.Env {
		e := &c.Env[i]
		if e.ValueFrom == nil {
			env.set(e.Name, Expand(e.Value, lookup))
			continue
		}
		value, given, err := valueFrom(e.ValueFrom, c, fields, src)
		if err != nil {
			return nil, err
		}
		if given {
			env.set(e.Name, value)
		}
	}
	for _, v := range services {
		if _, has := env.get(v.Name); !has {
			env.set(v.Name, v.Value)
		}
	}
	return env.vars, nil
}

func optional(b *bool) bool { return b != nil && *b }

func envFrom(env *environment, from *v1.EnvFromSource, namespace string, src Sources) error {
	content := map[string]string{}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := src.ConfigMap(namespace, from.ConfigMapRef.Name)
		if err != nil {
			return missing(err, optional(from.ConfigMapRef.Optional))
		}
		maps.Copy(content, cm.Data)
	case from.SecretRef != nil:
		s, err := src.Secret(namespace, from.SecretRef.Name)
		if err != nil {
			return missing(err, optional(from.SecretRef.Optional))
		}
		for k, v := range s.Data {
			content[k] = string(v)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(content)) {
		env.set(from.Prefix+k, content[k])
	}
	return nil
}

// missing turns the failure to read a source into a configuration error, or nothing where the source is optional.
func missing(err error, optional bool) error {
	if apierrors.IsNotFound(err) && optional {
		return nil
	}
	return &ConfigError{err}
}

func valueFrom(from *v1.EnvVarSource, c *v1.Container, fields downward.Fields, src Sources) (value string, given bool, err error) {
	namespace := fields.Pod.Namespace
	switch {
	case from.FieldRef != nil:
		value, err = fields.Field(from.FieldRef.FieldPath)
	case from.ResourceFieldRef != nil:
		value, err = fields.Resource(from.ResourceFieldRef, c.Name)
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := src.ConfigMap(namespace, ref.Name)
		if err != nil {
			return "", false, missing(err, optional(ref.Optional))
		}
		value, given = cm.Data[ref.Key]
		if !given && !optional(ref.Optional) {
			return "", false, configErrorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, namespace, ref.Name)
		}
		return value, given, nil
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		s, err := src.Secret(namespace, ref.Name)
		if err != nil {
			return "", false, missing(err, optional(ref.Optional))
		}
		b, has := s.Data[ref.Key]
		if !has && !optional(ref.Optional) {
			return "", false, configErrorf("couldn't find key %v in Secret %v/%v", ref.Key, namespace, ref.Name)
		}
		return string(b), has, nil
	default:
		err = errors.New("env.valueFrom: unsupported source")
	}
	if err != nil {
		return "", false, &ConfigError{err}
	}
	return value, true, nil
}

// Strings formats variables as NAME=value, the image's first, each name once.
func Strings(image []string, vars []Var) []string {
	set := map[string]bool{}
	for _, v := range vars {
		set[v.Name] = true
	}
	var out []string
	for _, s := range image {
		if name := before(s, '='); !set[name] {
			out = append(out, s)
		}
	}
	for _, v := range vars {
		out = append(out, v.Name+"="+v.Value)
	}
	return out
}

func before(s string, sep byte) string {
	for i := range len(s) {
		if s[i] == sep {
			return s[:i]
		}
	}
	return s
}

// Args is the command line: the container's command and args with $(NAME) expanded, or the image's.
func Args(c *v1.Container, entrypoint, cmd []string, env []Var) []string {
	byName := map[string]string{}
	for _, v := range env {
		byName[v.Name] = v.Value
	}
	expand := func(list []string) []string {
		var out []string
		for _, s := range list {
			out = append(out, Expand(s, func(n string) (string, bool) { v, has := byName[n]; return v, has }))
		}
		return out
	}
	command, args := expand(c.Command), expand(c.Args)
	switch {
	case len(command) > 0:
		return append(command, args...)
	case len(args) > 0:
		return append(slices.Clone(entrypoint), args...)
	}
	return append(slices.Clone(entrypoint), cmd...)
}
