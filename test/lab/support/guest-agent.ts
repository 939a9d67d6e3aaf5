import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

type Reply = { return?: unknown; error?: { class: string; desc: string } };

/** QEMU's guest agent over its socket: one command at a time. @see https://qemu.readthedocs.io/en/v7.2.0/interop/qemu-ga-ref.html */
export type GuestAgent = {
  readonly ask: (execute: string, args?: Record<string, unknown>) => Promise<unknown>;
  readonly close: () => void;
};

/** Connects, and waits until the agent answers; `gone` tells that it never will. */
export async function connectGuestAgent(path: string, gone: () => boolean): Promise<GuestAgent> {
  for (;;) {
    const socket = await open(path);
    if (socket) {
      const agent = speak(socket);
      // QEMU keeps what is written while nobody reads; a later answer to an earlier ping would be taken for another's.
      const answer = await Promise.race([
        agent.ask('guest-ping').then(() => 'pong'),
        waitFor(gone),
      ]);
      if (answer === 'pong') return agent;
      agent.close();
    }
    if (gone()) throw new Error('the machine ended before its guest agent answered');
    await sleep(100);
  }
}

async function waitFor(gone: () => boolean): Promise<'gone'> {
  while (!gone()) await sleep(100);
  return 'gone';
}

function open(path: string): Promise<Socket | null> {
  return new Promise(resolve => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(null));
  });
}

function speak(socket: Socket): GuestAgent {
  const waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void }[] = [];
  let text = '';
  const fail = (): void => {
    for (const { reject } of waiting.splice(0)) reject(new Error('the guest agent is gone'));
  };
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    text += chunk;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const line = text.slice(0, end).trim();
      text = text.slice(end + 1);
      if (line) waiting.shift()?.resolve(JSON.parse(line) as Reply);
    }
  });
  socket.on('error', fail);
  socket.on('close', fail);
  return {
    ask: async (execute, args) => {
      const reply = await new Promise<Reply>((resolve, reject) => {
        if (socket.destroyed) return reject(new Error('the guest agent is gone'));
        waiting.push({ resolve, reject });
        socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
      });
      if (reply.error) throw new Error(`guest agent, ${execute}: ${reply.error.desc}`);
      return reply.return;
    },
    close: () => socket.destroy(),
  };
}
