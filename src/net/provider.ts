// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from "node:stream";

/** What a network gives one VM: the configuration of its NIC, and the far end of the wire. */
export interface NetworkAttachment {
  /** Ethernet address of the guest's NIC. */
  readonly mac: string;
  /** What the agent configures on `eth0`; nothing is negotiated. */
  readonly guest: {
    /** In CIDR form, IPv4 or IPv6. */
    readonly addresses: readonly string[];
    /** Default routes, one per address family at most. */
    readonly gateways: readonly string[];
    readonly mtu: number;
    readonly nameservers: readonly string[];
    readonly search: readonly string[];
  };
  /** Called once with the wire: a byte stream of Ethernet frames, each after a 4-byte big-endian length. */
  connect(wire: Duplex): void;
}

/** Something that networks a VM. Leaving it out gives the VM no NIC at all. */
export interface NetworkProvider {
  readonly name: string;
  start(signal: AbortSignal): Promise<NetworkAttachment>;
  stop(): Promise<void>;
}
