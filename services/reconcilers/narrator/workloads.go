package narrator

import (
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Reasons of Events about what controllers make and delete.
const (
	made    = "SuccessfulCreate"
	removed = "SuccessfulDelete"
)

// dependents tells an object's owner that its controller has made or deleted the object. The messages are
// formats of the object's name (1) and the owner's (2).
func dependents(by voice, creation, deletion string) func(scene) ([]remark, error) {
	return func(s scene) ([]remark, error) {
		owner, owned := s.owner()
		if !owned {
			return nil, nil
		}
		if s.begins() {
			return []remark{by.normal(owner, made, creation, s.Subject.Key.Name, owner.Name)}, nil
		}
		if ends, err := s.ends(); !ends || err != nil {
			return nil, err
		}
		return []remark{by.normal(owner, removed, deletion, s.Subject.Key.Name, owner.Name)}, nil
	}
}

// scaled: a Deployment's controller has made a ReplicaSet or changed its size.
func scaled(s scene) ([]remark, error) {
	owner, owned := s.owner()
	if !owned || s.IsDeletion() {
		return nil, nil
	}
	var was int32
	if !s.begins() {
		before, known, err := s.before()
		if !known || err != nil {
			return nil, err
		}
		was = before.replicas()
	}
	is, name := s.object.replicas(), s.Subject.Key.Name
	switch {
	case is > was:
		return []remark{deployments.normal(owner, "ScalingReplicaSet", "Scaled up replica set %s from %d to %d", name, was, is)}, nil
	case is < was:
		return []remark{deployments.normal(owner, "ScalingReplicaSet", "Scaled down replica set %s from %d to %d", name, was, is)}, nil
	}
	return nil, nil
}

// jobLost: somebody, and no controller, has deleted a Job that a CronJob was running.
func jobLost(s scene) ([]remark, error) {
	owner, owned := s.owner()
	if !owned || owner.Kind != "CronJob" || !s.IsDeletion() || strings.HasPrefix(s.Actor, controllers) {
		return nil, nil
	}
	for _, ended := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed} {
		if s.object.condition(string(ended)).Status == string(corev1.ConditionTrue) {
			return nil, nil
		}
	}
	return []remark{cronJobs.normal(owner, "MissingJob", "Active job went missing: %s", s.Subject.Key.Name)}, nil
}

// jobTurned: a Job has finished, or was suspended or resumed.
func jobTurned(s scene) ([]remark, error) {
	before, known, err := s.before()
	if err != nil || !known {
		return nil, err
	}
	job, is := s.itself("Job"), string(corev1.ConditionTrue)
	turned := func(kind batchv1.JobConditionType, to string) bool {
		return s.object.condition(string(kind)).Status == to && before.condition(string(kind)).Status != to
	}
	switch {
	case turned(batchv1.JobComplete, is):
		return []remark{jobs.normal(job, "Completed", "Job completed")}, nil
	case turned(batchv1.JobFailed, is):
		c := s.object.condition(string(batchv1.JobFailed))
		return []remark{jobs.warning(job, c.Reason, "%s", c.Message)}, nil
	case turned(batchv1.JobSuspended, is):
		return []remark{jobs.normal(job, "Suspended", "Job suspended")}, nil
	case turned(batchv1.JobSuspended, string(corev1.ConditionFalse)) && before.condition(string(batchv1.JobSuspended)).Status == is:
		return []remark{jobs.normal(job, "Resumed", "Job resumed")}, nil
	}
	return nil, nil
}
