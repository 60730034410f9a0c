export type XmlValue = string | number | boolean | undefined | readonly XmlValue[] | XmlElements;
export interface XmlElements {
  readonly [name: string]: XmlValue;
}

/** Writes XML as the EC2 API does: what is undefined is left out, the members of a list are called `item`. */
export function xml(elements: XmlElements): string {
  return Object.entries(elements)
    .map(([name, value]) => (value === undefined ? '' : `<${name}>${content(value)}</${name}>`))
    .join('');
}

function content(value: Exclude<XmlValue, undefined>): string {
  if (Array.isArray(value)) return value.map((item: XmlValue) => xml({ item })).join('');
  if (typeof value === 'object') return xml(value as XmlElements);
  return String(value).replaceAll(/[&<>]/g, (char) => `&#${char.charCodeAt(0)};`);
}
