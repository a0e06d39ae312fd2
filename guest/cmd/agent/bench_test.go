// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"microvm.internal/guest/channel"
	pb "microvm.internal/guest/gen/microvmv1"
)

// agentCPU is the processor time the agent itself has used, which other work on the machine disturbs least.
func (c *client) agentCPU(b *testing.B) time.Duration {
	directory := "/proc/" + strconv.Itoa(c.process.Process.Pid) + "/task/"
	tasks, err := os.ReadDir(directory)
	if err != nil {
		b.Fatal(err)
	}
	var total time.Duration
	for _, task := range tasks {
		text, err := os.ReadFile(directory + task.Name() + "/schedstat")
		if err != nil {
			continue // the thread has ended, or the kernel does not tell
		}
		nanos, _ := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		total += time.Duration(nanos)
	}
	return total
}

// BenchmarkExec is a whole exec of /bin/true with both outputs.
func BenchmarkExec(b *testing.B) {
	c := startAgent(&testing.T{})
	defer c.session.Close()
	defer func(before time.Duration) {
		b.ReportMetric(float64((c.agentCPU(b)-before).Microseconds())/float64(b.N), "agent-µs/op")
	}(c.agentCPU(b))
	var all []time.Duration
	for b.Loop() {
		begin := time.Now()
		c.run(&pb.Exec{Args: []string{"/bin/true"}}, nil)
		all = append(all, time.Since(begin))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkOutput carries what a process writes.
func BenchmarkOutput(b *testing.B) {
	c := startAgent(&testing.T{})
	defer c.session.Close()
	defer func(before time.Duration) {
		b.ReportMetric(float64((c.agentCPU(b)-before).Microseconds())/float64(b.N), "agent-µs/op")
	}(c.agentCPU(b))
	e, failed := c.start(&pb.Exec{Args: []string{"cat", "/dev/zero"}, Stdout: true})
	if failed != nil {
		b.Fatal(failed.Message)
	}
	stream := e.stream(pb.Attach_STDIO_STDOUT)
	buffer := make([]byte, 1<<20)
	b.SetBytes(int64(len(buffer)))
	for b.Loop() {
		if _, err := io.ReadFull(stream, buffer); err != nil {
			b.Fatal(err)
		}
	}
	e.control.Close()
}

// BenchmarkInput carries what a process reads.
func BenchmarkInput(b *testing.B) {
	c := startAgent(&testing.T{})
	defer c.session.Close()
	defer func(before time.Duration) {
		b.ReportMetric(float64((c.agentCPU(b)-before).Microseconds())/float64(b.N), "agent-µs/op")
	}(c.agentCPU(b))
	e, failed := c.start(&pb.Exec{Args: []string{"sh", "-c", "cat > /dev/null"}, Stdin: true})
	if failed != nil {
		b.Fatal(failed.Message)
	}
	stream := e.stream(pb.Attach_STDIO_STDIN)
	buffer := make([]byte, 1<<20)
	b.SetBytes(int64(len(buffer)))
	for b.Loop() {
		if _, err := stream.Write(buffer); err != nil {
			b.Fatal(err)
		}
	}
	stream.Close()
	if err := channel.ReadFrame(e.control, channel.MaxControl, &pb.ExecEvent{}); err != nil {
		b.Fatal(err)
	}
}
