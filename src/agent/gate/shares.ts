/** What one of those that share something has of it. */
type Holder = {
  /** Takes so much more, or nothing where that would leave too little to the others. */
  readonly take: (amount: number) => boolean;
  readonly giveBack: (amount: number) => void;
};

/**
 * A new holder each time, of what all hold together: `most` at most. One half is kept for those that hold little: each of `mostHolders` has its
 * part of that, whatever the others do. Of the other half nobody takes more than he leaves: few may have much, and of many each less.
 */
export function createShares(most: number, mostHolders: number): () => Holder {
  const kept = most / 2;
  const little = kept / mostHolders;
  let all = 0;
  return () => {
    let own = 0;
    const add = (amount: number): void => {
      own += amount;
      all += amount;
    };
    return {
      take: amount => {
        const left = most - all - amount;
        const isShare = own + amount <= Math.max(little, left - kept);
        if (left < 0 || !isShare) return false;
        add(amount);
        return true;
      },
      giveBack: amount => add(-amount),
    };
  };
}
