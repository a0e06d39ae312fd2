// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"

	"golang.org/x/sys/unix"

	pb "microvm.internal/guest/gen/microvmv1"
)

// Now is CLOCK_BOOTTIME in nanoseconds: zero is the kernel's start.
func Now() uint64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic("clock_gettime: " + err.Error()) // no kernel lacks it
	}
	return uint64(now.Nano())
}

// StageError says which stage of the boot failed.
type StageError struct {
	Stage string
	Err   error
}

func (e *StageError) Error() string { return fmt.Sprintf("%s: %v", e.Stage, e.Err) }

func (e *StageError) Unwrap() error { return e.Err }

// Stages times the stages of a boot and reports each one as it ends.
type Stages struct {
	Report func(*pb.StageDone)
}

// Past reports a stage that ended before anybody could hear of it.
func (s *Stages) Past(name string, begin, end uint64) {
	s.Report(&pb.StageDone{Name: name, BeginNanos: begin, EndNanos: end})
}

func (s *Stages) run(name string, stage func() error) error {
	begin := Now()
	if err := stage(); err != nil {
		return &StageError{Stage: name, Err: err}
	}
	s.Past(name, begin, Now())
	return nil
}
