// Package job runs pods to completion.
//
// Decide loads a Job and its pods into a round. track.go counts each finished pod exactly once: pods carry a
// finalizer until the status, which first lists them as uncounted, has been written; only then the finalizer
// goes and the next round moves them into the totals. verdict.go says whether the Job has succeeded or failed
// (backoff limits, deadline, policies); pods.go makes and deletes pods; index.go knows sets of completion
// indexes. [Expiry] deletes finished Jobs after their ttlSecondsAfterFinished; [Orphans] takes the finalizer off
// pods whose Job is gone.
package job
