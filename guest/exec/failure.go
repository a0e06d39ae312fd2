// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	pb "microvm.internal/guest/gen/microvmv1"
)

// Failure is why nothing was started.
type Failure struct {
	Reason  pb.ExecFailed_Reason
	Message string
}

func (f *Failure) Error() string { return f.Message }

func fail(reason pb.ExecFailed_Reason, format string, args ...any) *Failure {
	return &Failure{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// asFailure gives any error a reason.
func asFailure(err error) *Failure {
	var failure *Failure
	if errors.As(err, &failure) {
		return failure
	}
	for _, limit := range []error{unix.EAGAIN, unix.ENOMEM, unix.E2BIG, unix.EMFILE, unix.ENFILE, unix.ENOSPC} {
		if errors.Is(err, limit) {
			return &Failure{Reason: pb.ExecFailed_REASON_LIMIT, Message: err.Error()}
		}
	}
	return &Failure{Reason: pb.ExecFailed_REASON_UNSPECIFIED, Message: err.Error()}
}
