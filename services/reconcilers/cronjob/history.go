package cronjob

import (
	"cmp"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/orlog-io/orlog/services/loop"
)

// forget deletes the oldest finished Jobs past the history limits.
func forget(c *batchv1.CronJob, jobs []*batchv1.Job) []loop.Effect {
	return append(oldest(jobs, batchv1.JobComplete, c.Spec.SuccessfulJobsHistoryLimit), oldest(jobs, batchv1.JobFailed, c.Spec.FailedJobsHistoryLimit)...)
}

func oldest(jobs []*batchv1.Job, verdictIs batchv1.JobConditionType, keep *int32) []loop.Effect {
	if keep == nil {
		return nil
	}
	var ended []*batchv1.Job
	for _, j := range jobs {
		if verdict(j) == verdictIs {
			ended = append(ended, j)
		}
	}
	slices.SortFunc(ended, func(a, b *batchv1.Job) int {
		return cmp.Or(started(a).Compare(started(b)), cmp.Compare(a.Name, b.Name))
	})
	var out []loop.Effect
	for _, j := range ended[:max(0, len(ended)-int(*keep))] {
		if j.DeletionTimestamp == nil {
			out = append(out, remove(j))
		}
	}
	return out
}

// started is when a Job began; one that never did counts as the newest.
func started(j *batchv1.Job) time.Time {
	if j.Status.StartTime == nil {
		return time.Unix(1<<40, 0)
	}
	return j.Status.StartTime.Time
}
