// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"microvm.internal/guest/channel"
	pb "microvm.internal/guest/gen/microvmv1"
)

func bootEvent(t *testing.T, stream io.Reader) *pb.BootEvent {
	t.Helper()
	var event pb.BootEvent
	if err := channel.ReadFrame(stream, channel.MaxControl, &event); err != nil {
		t.Fatal(err)
	}
	return &event
}

func TestNativeBootIsReadyOnce(t *testing.T) {
	c := startAgent(t)
	boot := &pb.Request{Call: &pb.Request_Boot{Boot: &pb.Boot{Hostname: "ignored"}}}
	ready := bootEvent(t, c.call(boot)).GetReady()
	if ready == nil || ready.UptimeNanos == 0 || ready.Kernel == "" {
		t.Errorf("got %+v", ready)
	}
	failed := bootEvent(t, c.call(boot)).GetFailed()
	if failed == nil || failed.Stage != "boot" || failed.Message != "this machine has been booted" {
		t.Errorf("got %+v", failed)
	}
}

func TestNativeBootRefusesARoot(t *testing.T) {
	c := startAgent(t)
	boot := &pb.Boot{Root: &pb.Root{LowerDevice: "/dev/vda"}}
	failed := bootEvent(t, c.call(&pb.Request{Call: &pb.Request_Boot{Boot: boot}})).GetFailed()
	if failed == nil || failed.Stage != "root" {
		t.Errorf("got %+v", failed)
	}
}

func TestUnknownCallsAreRefused(t *testing.T) {
	c := startAgent(t)
	for _, request := range []*pb.Request{{}, {Call: &pb.Request_Inspect{Inspect: &pb.Inspect{}}}} {
		var done pb.Done
		if err := channel.ReadFrame(c.call(request), channel.MaxControl, &done); err != nil || done.Code != "UNKNOWN_CALL" {
			t.Errorf("got %+v %v", &done, err)
		}
	}
}

func TestBadRequestsEndTheirStreamOnly(t *testing.T) {
	c := startAgent(t)
	for name, frame := range map[string][]byte{
		"huge":    binary.BigEndian.AppendUint32(nil, 0xffffffff),
		"garbage": append(binary.BigEndian.AppendUint32(nil, 4), 0xff, 0xff, 0xff, 0xff),
	} {
		stream, err := c.session.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Write(frame); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := c.run(shell("echo hello"), nil); got.stdout != "hello\n" {
		t.Errorf("got %+v", got)
	}
}

func TestShutdownEndsProcessesThenAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		script string
		grace  uint32
		want   syscall.Signal
	}{
		{"politely", "sleep 300", 10000, syscall.SIGTERM},
		{"by force", "trap '' TERM; echo ready; while :; do sleep 1; done", 200, syscall.SIGKILL},
		{"without grace", "sleep 300", 0, syscall.SIGKILL},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := startAgent(t)
			exec := shell(test.script)
			exec.Stdout = true
			e, failed := c.start(exec)
			if failed != nil {
				t.Fatal(failed.Message)
			}
			if test.name == "by force" {
				if _, err := io.ReadFull(e.stream(pb.Attach_STDIO_STDOUT), make([]byte, len("ready\n"))); err != nil {
					t.Fatal(err)
				}
			}
			begin := time.Now()
			stream := c.call(&pb.Request{Call: &pb.Request_Shutdown{Shutdown: &pb.Shutdown{GraceMillis: test.grace}}})
			if exited := e.wait(); exited.Signal != int32(test.want) {
				t.Errorf("got %v", exited)
			}
			if err := channel.ReadFrame(stream, channel.MaxControl, &pb.ShutdownDone{}); err != nil {
				t.Error(err)
			}
			if elapsed := time.Since(begin); elapsed > 5*time.Second {
				t.Errorf("took %v", elapsed)
			}
			select {
			case <-c.session.CloseChan():
			case <-time.After(5 * time.Second):
				t.Error("the agent did not end the channel")
			}
		})
	}
}
