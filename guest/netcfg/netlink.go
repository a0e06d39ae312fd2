// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// conn speaks rtnetlink: three kinds of message, each acknowledged. A library for this weighs 0.3 MB.
type conn struct {
	fd       int
	sequence uint32
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &conn{fd: fd}, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// setUp brings a link up and sets its MTU unless that is 0.
func (c *conn) setUp(index int, mtu uint32) error {
	// struct ifinfomsg
	body := make([]byte, 16)
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	binary.NativeEndian.PutUint32(body[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(body[12:], unix.IFF_UP)
	if mtu > 0 {
		body = appendAttr(body, unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, mtu))
	}
	return c.request(unix.RTM_NEWLINK, 0, body)
}

// replaceAddress sets an address. IPv6 addresses are usable at once: there is nobody to detect duplicates of.
func (c *conn) replaceAddress(index int, prefix netip.Prefix) error {
	address := prefix.Addr()
	// struct ifaddrmsg
	body := make([]byte, 8)
	body[0] = family(address)
	body[1] = byte(prefix.Bits())
	if address.Is6() {
		body[2] = unix.IFA_F_NODAD
	}
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	body = appendAttr(body, unix.IFA_LOCAL, address.AsSlice())
	body = appendAttr(body, unix.IFA_ADDRESS, address.AsSlice())
	if address.Is4() && prefix.Bits() < 31 {
		broadcast := address.As4()
		mask := ^uint32(0) >> prefix.Bits()
		binary.BigEndian.PutUint32(broadcast[:], binary.BigEndian.Uint32(broadcast[:])|mask)
		body = appendAttr(body, unix.IFA_BROADCAST, broadcast[:])
	}
	return c.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body)
}

// replaceDefaultRoute routes everything of a family through gateway, which need not be in a subnet of the link.
func (c *conn) replaceDefaultRoute(index int, gateway netip.Addr) error {
	// struct rtmsg
	body := make([]byte, 12)
	body[0] = family(gateway)
	body[4] = unix.RT_TABLE_MAIN
	body[5] = unix.RTPROT_STATIC
	body[6] = unix.RT_SCOPE_UNIVERSE
	body[7] = unix.RTN_UNICAST
	binary.NativeEndian.PutUint32(body[8:], unix.RTNH_F_ONLINK)
	body = appendAttr(body, unix.RTA_GATEWAY, gateway.AsSlice())
	body = appendAttr(body, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index)))
	return c.request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body)
}

func family(address netip.Addr) byte {
	if address.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func appendAttr(message []byte, kind uint16, value []byte) []byte {
	message = binary.NativeEndian.AppendUint16(message, uint16(unix.SizeofRtAttr+len(value)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = append(message, value...)
	for len(message)%unix.NLMSG_ALIGNTO != 0 {
		message = append(message, 0)
	}
	return message
}

// request sends one message and waits for its acknowledgement.
func (c *conn) request(kind, flags uint16, body []byte) error {
	c.sequence++
	message := make([]byte, 0, unix.SizeofNlMsghdr+len(body))
	message = binary.NativeEndian.AppendUint32(message, uint32(unix.SizeofNlMsghdr+len(body)))
	message = binary.NativeEndian.AppendUint16(message, kind)
	message = binary.NativeEndian.AppendUint16(message, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	message = binary.NativeEndian.AppendUint32(message, c.sequence)
	message = binary.NativeEndian.AppendUint32(message, 0) // the kernel fills in the port
	message = append(message, body...)
	if err := unix.Sendto(c.fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	reply := make([]byte, 4096)
	for {
		n, err := unix.Read(c.fd, reply)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(reply[4:]) != unix.NLMSG_ERROR {
			return errors.New("rtnetlink: unexpected reply")
		}
		if binary.NativeEndian.Uint32(reply[8:]) != c.sequence {
			continue
		}
		if code := int32(binary.NativeEndian.Uint32(reply[unix.SizeofNlMsghdr:])); code != 0 {
			return unix.Errno(-code)
		}
		return nil
	}
}
