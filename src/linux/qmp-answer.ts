import * as z from 'zod';
import { KernelInterfaceError } from '../contract/errors.ts';

/** Of what a monitor said, in a sentence for people. */
export const mostOfWords = 300;

/** An answer that is none of the command's: by the first that is wrong with it, for all of it may be much. */
export function notAnAnswer(execute: string, { issues }: z.ZodError): KernelInterfaceError {
  const why = z.prettifyError({ issues: issues.slice(0, 1) }).slice(0, mostOfWords);
  return new KernelInterfaceError('QMP_UNAVAILABLE', `${execute} answered something else: ${why}`);
}
