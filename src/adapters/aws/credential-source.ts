import type { AwsCredentials } from './presign-tunnel.ts';

/** What the SDK notes of where it found a credential, most telling first; the words are its own, for its user agent. */
const SOURCES: readonly (readonly [feature: RegExp, source: string])[] = [
  [/WEB_ID/, 'a web identity token (AWS_WEB_IDENTITY_TOKEN_FILE)'],
  [/SSO|LOGIN/, 'a login with the AWS command line, as the profile says'],
  [/PROCESS/, 'a credential process, as the profile says'],
  [/IMDS/, 'the metadata service of this instance'],
  [/HTTP/, 'the credential service of this container'],
  [/ENV_VARS/, 'the environment (AWS_ACCESS_KEY_ID)'],
  [/PROFILE/, 'a profile of ~/.aws'],
  [/STS/, 'a role that was assumed'],
];

/** Where a credential came from, in the words of people, and never what it is. */
export function credentialSource(credentials: AwsCredentials): string {
  const { $source: noted = {} } = credentials as { readonly $source?: Readonly<Record<string, unknown>> };
  const features = Object.keys(noted).join(' ');
  return SOURCES.find(([feature]) => feature.test(features))?.[1] ?? 'whoever called';
}
