/** @see https://github.com/grpc/grpc/blob/master/doc/statuscodes.md */
export const grpcStatus = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

const names = new Map<number, string>(
  Object.entries(grpcStatus).map(([name, code]) => [code, name]),
);

/** Its name; the number itself where there is none. */
export function statusName(code: number): string {
  return names.get(code) ?? String(code);
}

/** What an answer that is no gRPC stands for. @see https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md */
export function statusOfHttp(httpStatus: number): number {
  switch (httpStatus) {
    case 400:
      return grpcStatus.INTERNAL;
    case 401:
      return grpcStatus.UNAUTHENTICATED;
    case 403:
      return grpcStatus.PERMISSION_DENIED;
    case 404:
      return grpcStatus.UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
      return grpcStatus.UNAVAILABLE;
    default:
      return grpcStatus.UNKNOWN;
  }
}

/**
 * What a stream that was reset stands for; `rstCode` as HTTP/2 has them.
 * @see https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors
 */
export function statusOfReset(rstCode: number): number {
  switch (rstCode) {
    case 7: // REFUSED_STREAM: nothing was done
      return grpcStatus.UNAVAILABLE;
    case 8: // CANCEL
      return grpcStatus.CANCELLED;
    case 11: // ENHANCE_YOUR_CALM
      return grpcStatus.RESOURCE_EXHAUSTED;
    case 12: // INADEQUATE_SECURITY
      return grpcStatus.PERMISSION_DENIED;
    default:
      return grpcStatus.INTERNAL;
  }
}
