// SPDX-License-Identifier: Apache-2.0

// Package netcfg sets up the machine's network: links, addresses, routes, and the files that go with them.
package netcfg

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Network is what to configure besides the loopback.
type Network struct {
	Interface string
	Addresses []string // CIDR
	Gateways  []string
	MTU       uint32
}

const loopbackIndex = 1

// Apply brings up the loopback and, if network is not nil, its interface. It may be repeated.
func Apply(network *Network) error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.setUp(loopbackIndex, 0); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	if network == nil {
		return nil
	}
	return c.apply(network)
}

func (c *conn) apply(network *Network) error {
	name := network.Interface
	index, err := interfaceIndex(name)
	if err != nil {
		return err
	}
	// The host is the only router there can be, and it announces nothing.
	for _, setting := range []string{"accept_ra", "accept_dad"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+setting, []byte("0"), 0) // a kernel without IPv6
	}
	if err := c.setUp(index, network.MTU); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	for _, text := range network.Addresses {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("address of %s: %w", name, err)
		}
		if err := tolerate(prefix.Addr(), c.replaceAddress(index, prefix)); err != nil {
			return fmt.Errorf("add %s to %s: %w", text, name, err)
		}
	}
	for _, text := range network.Gateways {
		gateway, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("gateway of %s: %w", name, err)
		}
		if err := tolerate(gateway, c.replaceDefaultRoute(index, gateway)); err != nil {
			return fmt.Errorf("route through %s: %w", text, err)
		}
	}
	return nil
}

// tolerate lets a machine without IPv6 do without.
func tolerate(address netip.Addr, err error) error {
	if err == nil || address.Is4() {
		return err
	}
	for _, missing := range []error{unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EACCES} {
		if errors.Is(err, missing) {
			slog.Warn("network: this kernel has no IPv6", "address", address.String())
			return nil
		}
	}
	return err
}

func interfaceIndex(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("interface %q: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return int(request.Uint32()), nil
}
