// SPDX-License-Identifier: Apache-2.0

// Package boot turns a kernel with an agent into the machine that a Boot call describes.
package boot

import (
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"microvm.internal/guest/crash"
	pb "microvm.internal/guest/gen/microvmv1"
	"microvm.internal/guest/mount"
	"microvm.internal/guest/netcfg"
)

// Early mounts what the agent needs to find the host.
func Early() error {
	for _, m := range mount.Early {
		if err := m.Do(); err != nil {
			return err
		}
	}
	return nil
}

// Machine is what a boot assembled.
type Machine struct {
	root  *mount.Root
	grown chan struct{}
}

// Run boots. The error is a *StageError.
func Run(config *pb.Boot, stages *Stages) (*Machine, error) {
	machine := &Machine{grown: make(chan struct{})}
	for _, stage := range []struct {
		name string
		run  func() error
	}{
		{"root", func() error { return machine.assemble(config.Root) }},
		{"switch-root", func() error { return machine.root.Switch() }},
		{"mounts", mount.Standard},
		{"system", func() error { return configureSystem(config) }},
		{"network", func() error { return netcfg.Apply(network(config.Network)) }},
		{"files", func() error { return writeFiles(config) }},
		{"extra-mounts", func() error { return extraMounts(config.Mounts) }},
		{"seal", func() error { return machine.seal(config.Root) }},
	} {
		if err := stages.run(stage.name, stage.run); err != nil {
			return nil, err
		}
	}
	return machine, nil
}

// Close leaves the machine's disk clean. Nothing can be written afterwards.
func (m *Machine) Close() error {
	<-m.grown
	return m.root.Close()
}

func (m *Machine) assemble(root *pb.Root) error {
	if root == nil || root.LowerDevice == "" {
		return errors.New("no root was given")
	}
	upper := mount.Upper{}
	grow := false
	switch kind := root.Upper.(type) {
	case *pb.Root_Ext4:
		upper.Device = kind.Ext4.Device
		grow = kind.Ext4.Grow
		if upper.Device == "" {
			return errors.New("the writable disk has no device")
		}
	case *pb.Root_Tmpfs:
		upper.Size = kind.Tmpfs.SizeBytes
	}
	assembled, err := mount.Assemble(root.LowerDevice, upper)
	if err != nil {
		return err
	}
	m.root = assembled
	if !grow {
		close(m.grown)
		return nil
	}
	growing, err := assembled.Grow(upper.Device)
	if err != nil {
		return err
	}
	if growing == nil {
		close(m.grown)
		return nil
	}
	// On a large disk this takes the guest a while, and nobody needs the room yet.
	go func() {
		defer crash.Guard()
		defer close(m.grown)
		if err := growing(); err != nil {
			slog.Error("boot: the writable disk keeps its size", "error", err)
		}
	}()
	return nil
}

func (m *Machine) seal(root *pb.Root) error {
	if !root.ReadOnly {
		return nil
	}
	return m.root.ReadOnly()
}

func network(config *pb.Network) *netcfg.Network {
	if config == nil {
		return nil
	}
	return &netcfg.Network{
		Interface: config.Interface,
		Addresses: config.Addresses,
		Gateways:  config.Gateways,
		MTU:       config.Mtu,
	}
}

// writeFiles writes what Docker puts over an image's files. An image in which that is impossible can still run.
func writeFiles(config *pb.Boot) error {
	var addresses []string
	if config.Network != nil {
		addresses = config.Network.Addresses
	}
	hosts := make([]netcfg.Host, len(config.Hosts))
	for i, entry := range config.Hosts {
		hosts[i] = netcfg.Host{Address: entry.Address, Names: entry.Names}
	}
	files := []struct{ path, text string }{
		{"/etc/hosts", netcfg.HostsFile(config.Hostname, addresses, hosts)},
	}
	if config.Hostname != "" {
		files = append(files, struct{ path, text string }{"/etc/hostname", config.Hostname + "\n"})
	}
	if config.Network != nil {
		text := netcfg.ResolvFile(config.Network.Nameservers, config.Network.Search)
		files = append(files, struct{ path, text string }{"/etc/resolv.conf", text})
	}
	if err := unix.Mkdir("/etc", 0o755); err != nil && err != unix.EEXIST {
		slog.Warn("boot: mkdir /etc", "error", err)
	}
	for _, file := range files {
		if err := netcfg.Replace(file.path, file.text); err != nil {
			slog.Warn("boot: " + err.Error())
		}
	}
	if _, err := os.Lstat("/etc/mtab"); errors.Is(err, os.ErrNotExist) {
		_ = os.Symlink("/proc/mounts", "/etc/mtab") // as Docker; nothing needs it
	}
	return nil
}

func extraMounts(mounts []*pb.Mount) error {
	for _, m := range mounts {
		if err := mount.Extra(mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target}, m.Options); err != nil {
			return err
		}
	}
	return nil
}
