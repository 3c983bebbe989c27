package purity

import (
	"go/types"
	"slices"
)

// outside says what makes a whole package unfit for decisions, and which of its functions are fit all the same.
var outside = map[string]struct {
	why  string
	save []string
}{
	"crypto/rand":                        {"is chance", nil},
	"math/rand":                          {"is chance", nil},
	"math/rand/v2":                       {"is chance", nil},
	"k8s.io/apimachinery/pkg/util/rand":  {"is chance", []string{"SafeEncodeString"}},
	"k8s.io/apimachinery/pkg/util/uuid":  {"is chance", nil},
	"github.com/google/uuid":             {"is chance, or the clock", []string{"NewSHA1", "NewMD5", "NewHash", "Parse", "ParseBytes", "MustParse", "FromBytes", "Must", "Validate", "String"}},
	"k8s.io/apiserver/pkg/storage/names": {"is chance", nil},
	"os":                                 {"reaches the operating system", nil},
	"os/exec":                            {"starts a process", nil},
	"os/signal":                          {"reaches the operating system", nil},
	"syscall":                            {"reaches the operating system", nil},
	"golang.org/x/sys/unix":              {"reaches the operating system", nil},
	"net/http":                           {"reaches the network", []string{"StatusText", "CanonicalHeaderKey"}},
	"net":                                {"reaches the network", []string{"ParseIP", "ParseCIDR", "ParseMAC", "JoinHostPort", "SplitHostPort", "IPv4", "IPv4Mask", "CIDRMask"}},
	"log":                                {"writes a log line", nil},
	"log/slog":                           {"writes a log line", []string{"String", "Int", "Int64", "Uint64", "Bool", "Any", "Group", "Duration", "Time"}},
	"k8s.io/utils/clock":                 {"is the clock", nil},
	"runtime":                            {"depends on the process", nil},
	"runtime/debug":                      {"depends on the process", nil},
	"k8s.io/client-go/rest":              {"reaches the network", nil},
	"k8s.io/client-go/kubernetes":        {"reaches the network", nil},
}

// single functions that look at the clock, or let time pass, or write.
var single = map[string]string{
	"time.Now": "is the clock", "time.Since": "is the clock", "time.Until": "is the clock", "time.Sleep": "lets time pass",
	"time.After": "lets time pass", "time.AfterFunc": "lets time pass", "time.Tick": "lets time pass", "time.NewTimer": "lets time pass",
	"time.NewTicker": "lets time pass",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Now":      "is the clock",
	"k8s.io/apimachinery/pkg/apis/meta/v1.NowMicro": "is the clock",
	"fmt.Print": "writes to the terminal", "fmt.Printf": "writes to the terminal", "fmt.Println": "writes to the terminal",
	"fmt.Scan": "reads from the terminal", "fmt.Scanf": "reads from the terminal", "fmt.Scanln": "reads from the terminal",
}

// plain are types of those packages that are mere values.
var plain = map[string][]string{
	"net":                    {"IP", "IPNet", "IPMask", "HardwareAddr"},
	"net/http":               {"Header"},
	"github.com/google/uuid": {"UUID"},
	"log/slog":               {"Attr", "Value", "Level"},
}

// reachesOutside says why a function is unfit for decisions; "" where it is fit.
func reachesOutside(f *types.Func) string {
	if f.Pkg() == nil {
		return ""
	}
	path := f.Pkg().Path()
	recv := f.Signature().Recv()
	if recv == nil {
		if why := single[path+"."+f.Name()]; why != "" {
			return why
		}
	}
	if recv != nil && f.Name() == "UnsortedList" {
		return "gives a set in any order: use sets.List"
	}
	o, known := outside[path]
	if !known || slices.Contains(o.save, f.Name()) && recv == nil {
		return ""
	}
	if recv != nil && slices.Contains(plain[path], named(recv.Type())) {
		return ""
	}
	return o.why
}

// named is the name of a type or of what it points to.
func named(t types.Type) string {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := types.Unalias(t).(*types.Named); ok {
		return n.Obj().Name()
	}
	return ""
}
