const NUMBER = /^[1-9]\d*$/;

/**
 * Whether the first was given later than the second, both to objects of one kind. Kubernetes says since 1.35 that its versions
 * compare as numbers (KEP-5504); as they come from etcd they always did. Of what is no number nobody can tell: false.
 */
export function isLater(one: string, other: string): boolean {
  if (!NUMBER.test(one) || !NUMBER.test(other)) return false;
  return one.length === other.length ? one > other : one.length > other.length;
}
