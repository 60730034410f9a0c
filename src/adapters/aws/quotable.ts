const LONGEST_TEXT = 300;

/** What the other side says may quote the request, whose every parameter is a secret or part of one: then it is not for people. */
export function quotable(said: string, url: string): string {
  const text = decoded(said);
  const isQuoting = [...new URL(url).searchParams].some(
    ([name, value]) => name.startsWith('X-Amz-') && (text.includes(name) || (value.length > 8 && text.includes(value))),
  );
  return isQuoting ? 'withheld, since it quotes the signed request' : printed(said);
}

/** With what is encoded as in an address beside it. */
function decoded(text: string): string {
  const plain = text.replaceAll(/(?:%[0-9a-f]{2})+/gi, (bytes) =>
    Buffer.from(bytes.replaceAll('%', ''), 'hex').toString(),
  );
  return `${text} ${plain}`;
}

/** As much of it as fits into a line. */
export function printed(text: string): string {
  return text.slice(0, LONGEST_TEXT).replaceAll(/[^\x20-\x7e]/g, '?');
}
