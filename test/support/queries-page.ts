import { readFileSync } from 'node:fs';
import { namesInPrometheus } from './prometheus-names.ts';

const page = new URL('../../docs/queries.md', import.meta.url);

/** One query of the page. `isAlert`: no answer is a good one. */
export type Query = { readonly text: string; readonly isAlert: boolean };

export const queries: readonly Query[] = [
  ...readFileSync(page, 'utf8').matchAll(/^```promql( alert)?\n([\s\S]+?)\n```$/gm),
].map(([, alert, text = '']) => ({ text, isAlert: alert !== undefined }));

/** Names of metrics and labels in it, without those that it makes itself. */
export function namesIn({ text }: Query): string[] {
  return text.match(/\b(sculptor|container|system|process|network|host|cpu|disk)_\w+/g) ?? [];
}

/** Metrics of the contract that it asks for. */
export function metricsIn(query: Query): string[] {
  return namesIn(query).flatMap(name => namesInPrometheus.get(name) ?? []);
}
