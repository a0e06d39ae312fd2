// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"microvm.internal/guest/boot"
	"microvm.internal/guest/channel"
	"microvm.internal/guest/crash"
	"microvm.internal/guest/exec"
	pb "microvm.internal/guest/gen/microvmv1"
	"microvm.internal/guest/power"
	"microvm.internal/guest/reaper"
)

// flushLimit is how long the last words may take to reach the host before the machine goes.
const flushLimit = 500 * time.Millisecond

// agent answers the host's calls.
type agent struct {
	session  *channel.Session
	children *reaper.Reaper
	execs    *exec.Server
	native   bool
	began    uint64 // when the agent started, CLOCK_BOOTTIME

	bootOnce sync.Once
	machine  *boot.Machine // nil in native mode; valid once booted
	booted   chan struct{} // closed once processes may be started

	shutdownOnce sync.Once
}

func newAgent(session *channel.Session, children *reaper.Reaper, native bool) *agent {
	a := &agent{
		session:  session,
		children: children,
		execs:    exec.NewServer(session, children, native),
		native:   native,
		booted:   make(chan struct{}),
	}
	if native {
		close(a.booted)
	}
	return a
}

// serve accepts calls until the channel is lost.
func (a *agent) serve() error {
	for {
		stream, err := a.session.AcceptStream()
		if err != nil {
			return err
		}
		go a.answer(stream)
	}
}

func (a *agent) answer(stream *yamux.Stream) {
	defer crash.Guard()
	defer stream.Close()
	var request pb.Request
	if err := channel.ReadFrame(stream, channel.MaxRequest, &request); err != nil {
		if err != io.EOF {
			slog.Warn("a call that cannot be read", "error", err)
		}
		return
	}
	switch call := request.Call.(type) {
	case *pb.Request_Boot:
		a.boot(stream, call.Boot)
	case *pb.Request_Exec:
		// The host may send its first exec along with the boot.
		select {
		case <-a.booted:
			a.execs.Serve(stream, call.Exec)
		case <-a.session.CloseChan():
		}
	case *pb.Request_Shutdown:
		a.shutdown(stream, time.Duration(call.Shutdown.GraceMillis)*time.Millisecond)
	default:
		reply := &pb.Done{Code: "UNKNOWN_CALL", Message: "the guest does not know this call"}
		if err := channel.WriteFrame(stream, reply); err != nil {
			slog.Warn("refuse an unknown call", "error", err)
		}
	}
}

func (a *agent) boot(stream *yamux.Stream, config *pb.Boot) {
	first := false
	a.bootOnce.Do(func() { first = true })
	events := newEventWriter(stream)
	defer events.close()
	switch {
	case !first:
		events.failed(&boot.StageError{Stage: "boot", Err: errors.New("this machine has been booted")})
		return
	case a.native && config.Root != nil:
		events.failed(&boot.StageError{Stage: "root", Err: errors.New("a native agent assembles no root")})
		return
	case a.native:
		events.ready()
		return
	}
	stages := &boot.Stages{Report: events.stage}
	stages.Past("kernel", 0, a.began)
	stages.Past("channel", a.began, boot.Now())
	machine, err := boot.Run(config, stages)
	if err != nil {
		slog.Error("fatal: boot: " + err.Error())
		events.failed(err)
		events.close()
		a.session.Flushed(flushLimit)
		power.Off()
	}
	a.machine = machine
	close(a.booted)
	events.ready()
}

// shutdown ends the machine, or in native mode what was started in it.
func (a *agent) shutdown(stream *yamux.Stream, grace time.Duration) {
	a.shutdownOnce.Do(func() {
		a.stop(grace)
		if stream != nil {
			if err := channel.WriteFrame(stream, &pb.ShutdownDone{}); err != nil {
				slog.Warn("shutdown: answer", "error", err)
			}
			stream.Close()
			a.session.Flushed(flushLimit)
		}
		if a.native {
			a.session.Close()
			return
		}
		power.Off()
	})
}

func (a *agent) stop(grace time.Duration) {
	power.StopProcesses(a.children, grace)
	// The host hears how they ended, unless it does not listen.
	select {
	case <-a.execs.Finished():
	case <-time.After(flushLimit):
	}
	select {
	case <-a.booted:
	default:
		return // there is nothing to save
	}
	if a.machine == nil {
		return
	}
	if err := a.machine.Close(); err != nil {
		slog.Warn("shutdown: " + err.Error())
	}
}

// eventWriter sends boot events without making the boot wait for the host.
type eventWriter struct {
	queue chan *pb.BootEvent
	done  chan struct{}
	once  sync.Once
}

func newEventWriter(stream *yamux.Stream) *eventWriter {
	w := &eventWriter{queue: make(chan *pb.BootEvent, 64), done: make(chan struct{})}
	go func() {
		defer crash.Guard()
		defer close(w.done)
		for event := range w.queue {
			if err := channel.WriteFrame(stream, event); err != nil {
				slog.Debug("boot: report", "error", err)
			}
		}
	}()
	return w
}

func (w *eventWriter) close() {
	w.once.Do(func() { close(w.queue) })
	<-w.done
}

func (w *eventWriter) stage(done *pb.StageDone) {
	w.queue <- &pb.BootEvent{Event: &pb.BootEvent_Stage{Stage: done}}
}

func (w *eventWriter) ready() {
	w.queue <- &pb.BootEvent{Event: &pb.BootEvent_Ready{
		Ready: &pb.Ready{UptimeNanos: boot.Now(), Kernel: kernelRelease()},
	}}
}

func (w *eventWriter) failed(err error) {
	failed := &pb.Failed{Message: err.Error()}
	if stage, ok := errors.AsType[*boot.StageError](err); ok {
		failed.Stage = stage.Stage
		failed.Message = fmt.Sprint(stage.Err)
	}
	w.queue <- &pb.BootEvent{Event: &pb.BootEvent_Failed{Failed: failed}}
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}
