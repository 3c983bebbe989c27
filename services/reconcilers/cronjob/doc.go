// Package cronjob starts Jobs on time.
//
// Decide sums up the Jobs that a CronJob controls (which are active, which succeeded last, which are past the
// history limits), works out the newest scheduled time that has come (schedule.go), and starts the Job of that
// time unless the concurrency policy, the deadline or a suspension forbids it. A Job's name derives from its
// time, so that a decision made twice starts it once. Between times the key sleeps.
package cronjob
