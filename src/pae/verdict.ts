/** What the engine thinks of an instance now, in words: for people, and for the demonstration. */
export type Verdict = {
  readonly instance: string;
  readonly state:
    | 'calm'
    | 'within-share'
    | 'throttled'
    | 'hot'
    | 'recommended'
    | 'acting'
    | 'blocked';
  readonly why: string;
  readonly usedCores: number;
  readonly waitCores: number;
  readonly throttledCores: number;
  readonly demandCores: number;
  readonly supplyCores: number;
};
