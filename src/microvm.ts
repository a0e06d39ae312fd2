// SPDX-License-Identifier: Apache-2.0
import { PassThrough } from "node:stream";
import { MicrovmError, toMicrovmError } from "./errors.ts";
import { type Host, openHost } from "./host.ts";
import { type Backend, selectBackend } from "./hypervisor/index.ts";
import {
  localHandle,
  Machine,
  type MachineSpec,
  machineSpec,
  type OutputSink,
  openHandle,
  recordOf,
  removeFiles,
  removeOrphans,
  Timeline,
} from "./machine/index.ts";
import { parseRunOptions, type ResolvedRunOptions, type RunOptions } from "./options.ts";
import { locateRuntime } from "./runtime/index.ts";
import type { VmRecord } from "./state/index.ts";
import { VM, type VmInfo } from "./vm.ts";

/**
 * Runs an OCI image as a virtual machine.
 *
 * Resolves when the machine is up and its workload has been started; `vm.wait()` tells how that ends. An attached VM,
 * the default, dies with this process, however that ends; with `detach` it goes on without it.
 *
 * ```ts
 * await using vm = await run("debian:12", { command: null, remove: true });
 * const { stdout } = await vm.exec("uname", ["-r"]);
 * ```
 *
 * @param image an image reference: `debian:12`, `ghcr.io/owner/name@sha256:…`, `127.0.0.1:5000/demo`
 * @throws MicrovmError whose `stage` is the step that failed: `options`, `preflight`, `runtime`, `image`, `config`,
 *   `network`, `spawn`, `boot`, `workload`, `hooks`. Nothing is left running.
 */
export async function run(image: string, options: RunOptions = {}): Promise<VM> {
  const settings = parseRunOptions(options);
  const { signal, onEvent } = settings;
  const timeline = new Timeline(performance.now(), (stage) => onEvent?.({ type: "stage", stage }));
  const host = openHost();

  const backend = await timeline.measure("preflight", () => preflight(settings, host));
  const [runtime, stored] = await Promise.all([
    timeline.measure("runtime", () =>
      locateRuntime({
        cacheDir: host.dirs.cache,
        signal,
        onEvent: (event) => onEvent?.({ type: "runtime", event }),
      }),
    ),
    timeline.measure("image", () =>
      host.images.pull(image, {
        platform: settings.platform,
        policy: settings.pull,
        signal,
        onEvent: (event) => onEvent?.({ type: "pull", event }),
      }),
    ),
  ]);
  const spec = machineSpec(settings, {
    dirs: host.dirs,
    image: stored,
    reference: image,
    kernel: runtime.kernel,
    backend: backend.name,
  });
  try {
    host.images.lease(stored.id, spec.dir);
  } catch (error) {
    await removeFiles(spec);
    throw error;
  }
  const vm = settings.detach
    ? await startDetached(spec, host, settings, timeline)
    : await startAttached(spec, host, settings, backend, timeline);
  await postBoot(vm, settings);
  return vm;
}

/** The VMs of this user, newest first, whether they run or not. */
export async function listVms(): Promise<VmInfo[]> {
  const host = openHost();
  await removeOrphans(host.dirs.data, host.dirs.runtime, host.registry);
  const all = await Promise.all(
    host.registry.list().map(async (record) => {
      try {
        await using vm = await openVm(record, host);
        const info = await vm.inspect();
        return (await sweep(info, host)) ? [] : [info];
      } catch (error) {
        // One that ended, and removed itself, while we looked.
        if (error instanceof MicrovmError && error.code === "VM_NOT_FOUND") return [];
        throw error;
      }
    }),
  );
  return all.flat();
}

/**
 * The VM of that name, id, or unambiguous start of an id, whichever process owns it, running or not.
 *
 * @throws MicrovmError `VM_NOT_FOUND`.
 */
export async function getVm(nameOrId: string): Promise<VM> {
  const host = openHost();
  return openVm(host.registry.find(nameOrId), host);
}

async function openVm(record: VmRecord, host: Host): Promise<VM> {
  return new VM({
    record,
    registry: host.registry,
    machine: await openHandle(record, host.registry),
    owned: false,
  });
}

/** Removes what a killed owner of a `remove` VM could not. */
async function sweep(info: VmInfo, host: Host): Promise<boolean> {
  if (info.state !== "lost" || !info.autoRemove) return false;
  await removeFiles(info);
  host.registry.delete(info.id);
  return true;
}

async function preflight(settings: ResolvedRunOptions, host: Host): Promise<Backend> {
  if (settings.detach && settings.network !== "none") {
    throw new MicrovmError(
      "INVALID_OPTION",
      "network: a provider object cannot be handed to another process",
      {
        stage: "options",
        hint: "Run the VM attached.",
      },
    );
  }
  if (typeof settings.backend !== "string") {
    if (!settings.detach) return settings.backend;
    throw new MicrovmError(
      "INVALID_OPTION",
      "backend: a backend object cannot be handed to another process",
      {
        stage: "options",
        hint: "Name the backend, or run the VM attached.",
      },
    );
  }
  const { backend, acceleration, warning } = await selectBackend(settings.backend, {
    cacheDir: host.dirs.cache,
    signal: settings.signal,
  });
  settings.onEvent?.({ type: "backend", name: backend.name, acceleration, warning });
  return backend;
}

async function startAttached(
  spec: MachineSpec,
  host: Host,
  settings: ResolvedRunOptions,
  backend: Backend,
  timeline: Timeline,
): Promise<VM> {
  const streams = outputStreams(settings, spec);
  const machine = await Machine.start(spec, {
    backend,
    registry: host.registry,
    network: settings.network === "none" ? undefined : settings.network,
    sink: streams,
    signal: settings.signal,
    timeline,
  });
  return new VM({
    record: recordOf(spec),
    registry: host.registry,
    machine: localHandle(machine),
    streams: {
      stdin: machine.workload?.stdin,
      stdout: settings.stdio === "pipe" ? streams?.stdout : undefined,
      stderr: settings.stdio === "pipe" ? streams?.stderr : undefined,
      resize: (size) => machine.workload?.resize(size),
    },
    owned: true,
  });
}

async function startDetached(
  spec: MachineSpec,
  host: Host,
  settings: ResolvedRunOptions,
  timeline: Timeline,
): Promise<VM> {
  const began = performance.now();
  const { startMonitor } = await import("./monitor/index.ts");
  try {
    await startMonitor(
      { spec, dirs: host.dirs },
      {
        signal: settings.signal,
        onStage: ({ name, beginMs, endMs }) =>
          timeline.add(`monitor ${name}`, began + beginMs, began + endMs),
      },
    );
  } catch (error) {
    // The monitor tidies up after itself, unless it never came to. What is left even so, `listVms` removes.
    if (!host.registry.list().some(({ id }) => id === spec.id)) await removeFiles(spec).catch(() => {});
    throw error;
  }
  return openVm(recordOf(spec), host);
}

function outputStreams(
  settings: ResolvedRunOptions,
  spec: MachineSpec,
): (OutputSink & { stdout: PassThrough; stderr: PassThrough | undefined }) | undefined {
  if (settings.stdio === "ignore" || !spec.workload) return undefined;
  const streams = { stdout: new PassThrough(), stderr: spec.workload.tty ? undefined : new PassThrough() };
  if (settings.stdio === "inherit") {
    inherit(streams.stdout, process.stdout);
    if (streams.stderr) inherit(streams.stderr, process.stderr);
  }
  return streams;
}

function inherit(source: PassThrough, target: NodeJS.WriteStream): void {
  source.pipe(target, { end: false });
  target.once("error", () => source.resume()); // nobody reads any more, and the workload must not wait for that
}

async function postBoot(vm: VM, { postBoot: hooks, signal }: ResolvedRunOptions): Promise<void> {
  try {
    for (const hook of hooks) await hook(vm);
  } catch (error) {
    await vm.stop({ timeoutMs: 0 });
    throw toMicrovmError(error, "hooks", signal).within("post-boot hook");
  }
}
