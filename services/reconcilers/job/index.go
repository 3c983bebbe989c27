package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// indexes is a sorted set of completion indexes, spelled "0-2,5".
type indexes []int

func parseIndexes(s string) indexes {
	var out indexes
	for part := range strings.SplitSeq(s, ",") {
		low, high, ranged := strings.Cut(part, "-")
		from, err := strconv.Atoi(low)
		if err != nil {
			continue // an empty list
		}
		to := from
		if ranged {
			if to, err = strconv.Atoi(high); err != nil {
				continue
			}
		}
		for i := from; i <= to; i++ {
			out = append(out, i)
		}
	}
	return out
}

func (x indexes) String() string {
	var parts []string
	for i := 0; i < len(x); {
		j := i
		for j+1 < len(x) && x[j+1] == x[j]+1 {
			j++
		}
		switch j {
		case i:
			parts = append(parts, strconv.Itoa(x[i]))
		case i + 1:
			parts = append(parts, strconv.Itoa(x[i]), strconv.Itoa(x[j]))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", x[i], x[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

func (x indexes) has(i int) bool {
	_, found := slices.BinarySearch(x, i)
	return found
}

func (x *indexes) add(i int) {
	if at, found := slices.BinarySearch(*x, i); !found {
		*x = slices.Insert(*x, at, i)
	}
}

// indexOf is the completion index that a pod works on; -1 where it has none.
func indexOf(p *corev1.Pod) int {
	i, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || i < 0 {
		return -1
	}
	return i
}
