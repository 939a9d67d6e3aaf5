import { getChannelzHandlers, type Server } from '@grpc/grpc-js';

type AskServer = (
  call: { readonly request: { readonly server_id: string } },
  answer: (
    error: unknown,
    found?: {
      readonly server: {
        readonly data: { readonly calls_succeeded: number; readonly calls_failed: number };
      };
    },
  ) => void,
) => void;

/**
 * Calls of a server that have ended, also those that it refused before a handler or an interceptor heard of them: what grpc-js
 * counts for channelz, and answers at once. 0 where it does not know the server.
 * @see https://github.com/grpc/proposal/blob/master/A14-channelz.md
 */
export function endedCalls(server: Server): number {
  let ended = 0;
  // Its type is that of a call which came over the network.
  const ask = getChannelzHandlers().GetServer as unknown as AskServer;
  ask({ request: { server_id: `${server.getChannelzRef().id}` } }, (_error, found) => {
    if (found) ended = found.server.data.calls_succeeded + found.server.data.calls_failed;
  });
  return ended;
}
