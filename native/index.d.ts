/**
 * The native addon: it marshals and decides nothing. Errors are `Error`s with `code` (`EPERM`, …), `errno` and, when the
 * verifier spoke, `log`. Every call is synchronous and on the main thread; a vsock bridge and `readAside` have threads of
 * their own, which call no JavaScript.
 */
export type Native = {
  /** SO_PEERCRED of a connected unix socket. */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number };
  /** sched_getaffinity(2) of one thread: CPU ids, ascending. Throws ESRCH when it has ended. */
  getAffinity(tid: number): number[];
  /** sched_setaffinity(2) of many threads to one list of CPUs; answers one errno per thread (0: done). */
  setAffinity(tids: Int32Array, cpus: Int32Array): Int32Array;
  /**
   * Lets go of the pages of files that are mapped to be read or run (code and constants), and answers how many bytes that were.
   * They stay in the page cache, shared with whoever runs the same file; those that are used are mapped again when they are.
   */
  dropFilePages(): number;
  /**
   * The beginning of a file, `mostBytes` of it at most, read by another thread: what a process holds may keep its reader
   * waiting for good, as its mmap lock does with /proc/PID/cmdline. Throws ETIMEDOUT after so many milliseconds, and at once
   * while the last reading of that path waits still; EAGAIN while 64 wait; and whatever it is to open and to read it.
   */
  readAside(path: string, mostBytes: number, milliseconds: number): Buffer;
  /**
   * Locks a folder for this process alone (flock(2)), of any filesystem: until the descriptor that it answers is closed, or the process
   * has ended. Throws EAGAIN while another has it.
   */
  lockFolder(path: string): number;
  /**
   * Ends this process after so many milliseconds, if it is there still: to be asked as it ends, when Node waits for each of the threads
   * that read files, look up names and walk through mappings, for as long as whoever those wait for likes.
   */
  endWithin(milliseconds: number, exitCode: number): void;
  /** Opens and loads a BPF object; nothing is attached yet. */
  loadObject(path: string, options: BpfLoadOptions): BpfObject;
  /**
   * Hears of what is written in folders (inotify(7)): of files only those whose name begins with one of `prefixes`. Throws EMFILE
   * where this user has too many such queues.
   */
  openFolderWatch(prefixes: readonly string[]): FolderWatchQueue;
  /** AF_VSOCK for Node, which has none. Throws EMFILE, ENOMEM. */
  openVsockBridge(options: { readonly maxConnections: number }): VsockBridge;
  /** libbpf's version, such as `1.1`. */
  libbpfVersion(): string;
};

/** It is asked, and wakes nobody: what comes meanwhile is kept by the kernel, which joins what is alike, up to some 16,000 events. */
export type FolderWatchQueue = {
  /** From now on; answers the folder's watch, the same one as before where it is the same folder. Throws ENOENT, ENOTDIR, ENOSPC, EACCES. */
  add(folder: string): number;
  /** Of one that the kernel has given up by itself as well. */
  remove(watch: number): void;
  /**
   * Since the last call: watches of folders in which files were written; folders that came or went, by the watch of the one that they
   * are in; and whether there was more than is told. A megabyte of events is read at most; the rest is there the next time.
   */
  take(): {
    readonly written: Int32Array;
    readonly moved: readonly { readonly watch: number; readonly name: string }[];
    readonly overflowed: boolean;
  };
  /** Further calls throw EBADF. */
  close(): void;
};

/**
 * Carries AF_VSOCK connections to unix sockets, both ways, with half-closes; 64 KB of each are held at most. A descriptor
 * that it hands out is the caller's to close; its connection ends when either end does.
 */
export type VsockBridge = {
  /**
   * Listens on a port of every context id, once. `accepted` gets a descriptor that `net.Socket` takes, and the context id of
   * the peer as the kernel tells it. It keeps no process alive. Throws EADDRINUSE, EACCES (ports below 1024).
   */
  listen(port: number, accepted: (fd: number, cid: number) => void): void;
  /** A descriptor of a connection that is being made; it ends when none can be made. Throws ENODEV, EMFILE, … */
  dial(cid: number, port: number): number;
  /** Connections that are open, were refused since there are too many, or failed; the errno's name of the last failure. */
  counters(): { open: number; refused: number; failed: number; lastFailure: string | null };
  /** Ends every connection and the thread; further calls throw EBADF. */
  close(): void;
};

export type BpfLoadOptions = {
  /** `const volatile` variables by name; a buffer is the beginning of an array. */
  readonly constants?: Readonly<Record<string, number | bigint | boolean | Buffer>>;
  /** max_entries of maps by name. */
  readonly maxEntries?: Readonly<Record<string, number>>;
  /** Hashes by CPU, by name, that are made to have one value for all CPUs. */
  readonly plainHashes?: readonly string[];
  /** Programs to load; absent: all. */
  readonly programs?: readonly string[];
  /** Of those, programs that are not loaded after all. */
  readonly without?: readonly string[];
  /** A file with the kernel's BTF, by which fields are found; absent: the kernel's own. */
  readonly btf?: string;
};

/** Entries of a map: keys and values one after another. A per-CPU value is `cpus` values of `valueSize` bytes. */
export type WholeMap = {
  readonly count: number;
  /** As many as there may be. */
  readonly maxEntries: number;
  readonly cpus: number;
  readonly valueSize: number;
  readonly keys: Buffer;
  readonly values: Buffer;
};

/**
 * Entries of a map whose values are words of 64 bits, each summed over all CPUs; exact up to 2^53. `keys`: one after another;
 * `sums`: `width` words of each.
 */
export type MapSums = {
  readonly count: number;
  readonly maxEntries: number;
  readonly width: number;
  readonly keys: Buffer;
  readonly sums: Float64Array;
};

/** One word of each value of such a map: `words` has `cpus` of each entry. */
export type MapWord = {
  readonly count: number;
  readonly maxEntries: number;
  readonly cpus: number;
  readonly keys: Buffer;
  readonly words: Float64Array;
};

export type BpfObject = {
  /** Attaches a program by its section; iterators are attached by `iterate`. */
  attach(program: string): void;
  /**
   * Attaches a `perf_event` program to a software event (PERF_COUNT_SW_*) of each of these CPUs, and of no other: CPUs that
   * have it keep it, so called again with the CPUs that are online it follows them.
   */
  attachSoftwareEvent(program: string, event: number, cpus: Int32Array): void;
  /** Runs an `iter/…` program once over everything and answers what it wrote. `map`: of an iterator over the entries of one. */
  iterate(program: string, map?: string): Buffer;
  /**
   * Runs an `iter/task…` program over one thread, or over what it has, on a thread of its own, since it may have to wait for locks of
   * that; nothing is written of one that has ended. Throws EINVAL where no thread can have this id.
   */
  iterateThread(program: string, tid: number): Promise<Buffer>;
  /** Runs an `iter/task` program for one task, this process's first: a program that is run when it is asked to be. */
  runOnce(program: string): Buffer;
  /** Runs a `raw_tp` program that takes nothing, here and now (BPF_PROG_RUN), and answers what it returned. */
  runRaw(program: string): number;
  /** The values of an array made with BPF_F_MMAPABLE, each as long as a multiple of 8 bytes: what programs write is seen. */
  mapMemory(map: string): Buffer;
  /**
   * All entries of a hash. Reads in batches; an entry that comes or goes meanwhile may or may not be among them.
   */
  readMap(map: string): WholeMap;
  /** The same, and the map is empty then; an update that a program makes of an entry at that very moment is lost. */
  takeMap(map: string): WholeMap;
  /** As `readMap`. Throws EINVAL where values are no whole words of 64 bits. */
  readSums(map: string): MapSums;
  /** As `takeMap`. */
  takeSums(map: string): MapSums;
  /** The same of the `word`th of each value, not summed. Throws EINVAL where values have none such. */
  readWord(map: string, word: number): MapWord;
  /** One entry of an array or hash (per-CPU: all CPUs); null when absent. */
  lookup(map: string, key: Buffer): Buffer | null;
  /** The same, each word summed over all CPUs. */
  lookupSums(map: string, key: Buffer): Float64Array | null;
  /** Deletes entries; answers how many were there. */
  deleteKeys(map: string, keys: Buffer): number;
  /** Of its maps and programs, as the kernel tells it (memlock in /proc/self/fdinfo): without what tasks and sockets carry. */
  memoryBytes(): number;
  /**
   * By program: how often it was skipped because it was running on that CPU already; and, while the kernel's
   * `bpf_stats_enabled` is set, how often and how long it ran (ns).
   */
  programStats(): Record<string, { runs: number; runNs: number; missed: number }>;
  /** Detaches and frees everything; further calls throw. */
  close(): void;
};
