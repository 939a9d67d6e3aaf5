/** Writes one piece of a command's answer to standard output, and a newline. */
export type Print = (text: string) => void;
