import { aborted, ReconcileError, terminal, transient, waiting } from '../../domain/errors.ts';
import { Expired } from '../../ports/deadline.ts';
import type { AwsAction, AwsOutcome } from '../../ports/metrics.ts';
import type { Facts } from '../../ports/path-trace.ts';

/** What was asked, for messages. */
export interface AwsQuestion {
  readonly action: AwsAction;
  readonly region: string;
  /** What it was about: the id of an instance. Left out: of many. */
  readonly subject?: string | undefined;
}

/**
 * What is kept of an error of the SDK. The error itself quotes answers of AWS, and those quote requests: the text of
 * SignatureDoesNotMatch holds the session token.
 */
class AwsFailure extends Error {
  override readonly name = 'AwsFailure';
  /** `UnauthorizedOperation`; of a broken connection `ECONNREFUSED`. */
  readonly code: string;
  readonly status: number | undefined;

  constructor(thrown: unknown, { action, region }: AwsQuestion) {
    const { $metadata } = thrown as SdkError;
    const known = codeOf(thrown);
    const status = $metadata?.httpStatusCode;
    const id = $metadata?.requestId;
    const answered = status === undefined ? '' : ` (HTTP ${status}${id === undefined ? '' : `, request ${id}`})`;
    super(`${permissionOf(action)} in ${region}: ${known}${answered}`);
    this.code = known;
    this.status = status;
  }
}

interface SdkError {
  /** The code of AWS, whatever the protocol of the API. */
  readonly name?: unknown;
  /** Of a connection that broke: what Node calls that. */
  readonly code?: unknown;
  readonly $metadata?: SdkMetadata;
}

interface SdkMetadata {
  readonly httpStatusCode?: number;
  readonly requestId?: string;
  readonly attempts?: number;
}

function codeOf(thrown: unknown): string {
  // Its name would read as that of a credential.
  if (thrown instanceof Expired) return thrown.message;
  const { name, code } = thrown as SdkError;
  if (typeof code === 'string') return code;
  return typeof name === 'string' ? name : 'unknown';
}

/** As IAM policies spell it: `ec2:DescribeInstances`. */
function permissionOf(action: AwsAction): string {
  const isOfInstanceConnect = action === 'SendSSHPublicKey' || action === 'OpenTunnel';
  return `${isOfInstanceConnect ? 'ec2-instance-connect' : 'ec2'}:${action}`;
}

/** What an answer of AWS, or an error of the SDK, says of its request; of the error its code too, and never its text. */
export function factsOf(answer: unknown): Facts {
  const { $metadata: { httpStatusCode: status, requestId: request, attempts } = {} } = answer as SdkError;
  const code = answer instanceof Error ? codeOf(answer) : undefined;
  return { status, code, request, ...(attempts === undefined || attempts < 2 ? {} : { attempts }) };
}

const DENIED = new Set(['UnauthorizedOperation', 'AccessDenied', 'AccessDeniedException', 'NotAuthorized']);

const BAD_CREDENTIAL = new Set([
  'AuthException',
  'AuthFailure',
  'IncompleteSignature',
  'InvalidAccessKeyId',
  'InvalidClientTokenId',
  'InvalidSignatureException',
  'MissingAuthenticationToken',
  'MissingAuthenticationTokenException',
  'OptInRequired',
  'SignatureDoesNotMatch',
  'UnrecognizedClientException',
]);

/** Whoever hands credentials out renews them in the end, and the SDK reads them again. */
const OLD_CREDENTIAL = new Set([
  'CredentialsProviderError',
  'TokenProviderError',
  'ExpiredToken',
  'ExpiredTokenException',
  'RequestExpired',
]);

const THROTTLED = new Set([
  'BandwidthLimitExceeded',
  'EC2ThrottledException',
  'LimitExceededException',
  'PriorRequestNotComplete',
  'RequestLimitExceeded',
  'RequestThrottled',
  'RequestThrottledException',
  'SlowDown',
  'Throttling',
  'ThrottledException',
  'ThrottlingException',
  'TooManyRequestsException',
]);

/** What a request says is not what this AWS takes: too long, too many, or in no form that it knows. */
const NOT_TAKEN = new Set([
  'FilterLimitExceeded',
  'InvalidArgsException',
  'InvalidCharacter',
  'InvalidFilter',
  'InvalidInput',
  'InvalidInstanceID.Malformed',
  'InvalidParameter',
  'InvalidParameterCombination',
  'InvalidParameterValue',
  'InvalidTagKey.Malformed',
  'MalformedQueryString',
  'UnknownParameter',
  'ValidationError',
  'ValidationException',
]);

const INSTANCE_RETRY_MS = 15_000;

/** By name and code alone: the texts of AWS change, and quote. */
export function classifyAws(thrown: unknown, question: AwsQuestion, signal: AbortSignal): ReconcileError {
  const failure = new AwsFailure(thrown, question);
  const { code } = failure;
  const { region } = question;
  const action = permissionOf(question.action);
  if (signal.aborted) return aborted(`${action} in ${region} was called off`, failure);
  if (DENIED.has(code)) {
    return terminal('AccessDenied', `AWS does not let the credential of plugset do ${action} in ${region}`, failure);
  }
  if (BAD_CREDENTIAL.has(code)) {
    return terminal(
      'AuthenticationFailed',
      `AWS does not take the credential of plugset in ${region} (${code})`,
      failure,
    );
  }
  if (OLD_CREDENTIAL.has(code)) {
    const text = `plugset has no AWS credential that is good now (${code}); the AWS SDK looks in the environment of plugset, the profile (AWS_PROFILE), web identity, container and instance`;
    return transient('AuthenticationFailed', text, failure);
  }
  if (THROTTLED.has(code) || failure.status === 429) {
    return transient('Throttled', `AWS takes no more ${action} in ${region} for now (${code})`, failure);
  }
  if (NOT_TAKEN.has(code)) {
    const { subject = 'what it was asked' } = question;
    const orUser = question.action === 'SendSSHPublicKey' ? ', or the user who logs in there' : '';
    return terminal('InvalidSpec', `${action} in ${region}: AWS does not take ${subject}${orUser} (${code})`, failure);
  }
  return aboutInstance(failure, question) ?? unreachable(failure, question);
}

function aboutInstance(failure: AwsFailure, question: AwsQuestion): ReconcileError | undefined {
  const { subject = 'the instance' } = question;
  const action = permissionOf(question.action);
  switch (failure.code) {
    case 'EC2InstanceNotFoundException':
    case 'InvalidInstanceID.NotFound':
      // Also for about a minute after a launch, until the whole of AWS knows of it.
      return waiting('WorkspaceNotFound', `${action}: AWS knows nothing of ${subject}`, INSTANCE_RETRY_MS, failure);
    case 'EC2InstanceStateInvalidException':
      return waiting('WorkspaceNotRunning', `${action}: ${subject} does not run`, INSTANCE_RETRY_MS, failure);
    case 'EC2InstanceUnavailableException':
      return transient('Unreachable', `${action}: AWS cannot reach ${subject} now`, failure);
    default:
      return undefined;
  }
}

function unreachable(failure: AwsFailure, { action, region }: AwsQuestion): ReconcileError {
  return transient('Unreachable', `AWS did not answer ${permissionOf(action)} in ${region} (${failure.code})`, failure);
}

/** Whether AWS would answer, were it not for something that the request says: each part of it can be asked by itself. */
export function isAboutContent(error: unknown): error is ReconcileError {
  return error instanceof ReconcileError && (error.reason === 'InvalidSpec' || error.reason === 'WorkspaceNotFound');
}

/** For what was thrown by whoever asked AWS; who did not wait for the end throws what he likes. */
export function outcomeOf(error: unknown): AwsOutcome {
  if (!(error instanceof ReconcileError) || error.class === 'aborted') return 'called_off';
  switch (error.reason) {
    case 'AccessDenied':
    case 'AuthenticationFailed':
      return 'denied';
    case 'Throttled':
    case 'EndpointBusy':
      return 'throttled';
    case 'Unreachable':
      return 'unanswered';
    default:
      return 'refused';
  }
}
