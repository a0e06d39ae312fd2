// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is a line of /etc/hosts.
type Host struct {
	Address string
	Names   []string
}

// HostsFile is the text of /etc/hosts, as Docker writes it.
func HostsFile(hostname string, addresses []string, more []Host) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n")
	for _, host := range more {
		line(&b, host.Address, host.Names...)
	}
	if hostname == "" {
		return b.String()
	}
	named := false
	for _, text := range addresses {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			line(&b, prefix.Addr().String(), hostname)
			named = true
		}
	}
	if !named {
		line(&b, "127.0.1.1", hostname)
	}
	return b.String()
}

func line(b *strings.Builder, address string, names ...string) {
	b.WriteString(field(address))
	b.WriteByte('\t')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(field(name))
	}
	b.WriteByte('\n')
}

// field keeps one value from becoming several, or another line.
func field(text string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == '#' || r == 0x7f {
			return -1
		}
		return r
	}, text)
}

// ResolvFile is the text of /etc/resolv.conf.
func ResolvFile(nameservers, search []string) string {
	var b strings.Builder
	if len(search) > 0 {
		b.WriteString("search")
		for _, domain := range search {
			b.WriteByte(' ')
			b.WriteString(field(domain))
		}
		b.WriteByte('\n')
	}
	for _, server := range nameservers {
		b.WriteString("nameserver ")
		b.WriteString(field(server))
		b.WriteByte('\n')
	}
	return b.String()
}

// Replace makes path a new regular file with this text, whatever it was before: an image's link is not followed.
func Replace(path, text string) error {
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if _, err := file.WriteString(text); err != nil {
		file.Close()
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return file.Close()
}
