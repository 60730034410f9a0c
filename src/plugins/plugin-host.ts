import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { ReconcileError, terminal, transient, unknownOutcome, type ErrorClass } from '../domain/errors.ts';
import type { PluginName } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import { REASONS, type Reason } from '../domain/reason.ts';
import type { TreeLists } from '../domain/tree.ts';
import type { ConvergeRequest, ConvergeResult, HostPlace, LookDetail, PluginHost } from '../ports/plugin-host.ts';
import type { RunResult } from '../ports/workspace-target.ts';
import { parseScriptOutput, type ScriptOutput } from './script-output.ts';
import { comparisonLines, packTransaction } from './transaction-archive.ts';

const LOOK = scriptOf('look');
const LOOK_AT_LOADER = scriptOf('loader') + LOOK;
const APPLY = LOOK + ['lock', 'check', 'roll-forward', 'apply'].map(scriptOf).join('');

const LOOK_DEADLINE_MS = 60_000;
/** A client that falls silent holds the lock so long. */
const APPLY_DEADLINE_MS = 300_000;
const PIECE_BYTES = 64 * 1024;

/** What a reason that a script gives means for the queue. */
const CLASSES: ReadonlyMap<string, ErrorClass> = new Map<Reason, ErrorClass>([
  ['ConfigDirMissing', 'transient'],
  ['DiskFull', 'transient'],
  ['ForeignOwner', 'terminal'],
  ['InstallFailed', 'transient'],
  ['Internal', 'terminal'],
  ['LockHeld', 'transient'],
  ['ObserveFailed', 'transient'],
  ['PermissionDenied', 'terminal'],
  ['ReadOnly', 'terminal'],
  ['RemoveFailed', 'transient'],
  ['StaleFence', 'aborted'],
  ['TargetMoved', 'transient'],
  ['ToolMissing', 'terminal'],
  ['UnknownFormat', 'terminal'],
  ['UnsafePath', 'terminal'],
  ['VerifyFailed', 'transient'],
]);

/** The one implementation: two constant scripts, each run once, by whatever a target offers to run commands. */
export class ScriptedPluginHost implements PluginHost {
  async observe(
    place: HostPlace,
    candidates: ReadonlyMap<PluginName, TreeLists>,
    signal: AbortSignal,
    detail?: LookDetail,
  ): Promise<Observation> {
    const nonce = newNonce();
    const memoryFile = detail === 'loader' ? (place.profile.memoryFile ?? []) : [];
    const args = [
      place.configDir,
      detail === undefined ? [] : detail === 'settings' ? detail : 'lists',
      memoryFile,
    ].flat();
    const script = detail === 'loader' ? LOOK_AT_LOADER : LOOK;
    const result = await place.target.run(['sh', '-c', script, 'sh', 'look', ...args], {
      as: 'observer',
      stdin: lookInput(nonce, candidates),
      deadlineMs: LOOK_DEADLINE_MS,
      signal,
    });
    if (result.kind === 'unknown') throw transient('ObserveFailed', `${where(place)}: ${result.message}`, result.cause);
    const output = parseScriptOutput(result.stdout, nonce, new Set(candidates.keys()));
    if (output === undefined)
      throw (
        noShell(place, result) ?? transient('ObserveFailed', `${where(place)}: ${broken(result)}`, stderrOf(result))
      );
    requireSuccess(place, output);
    return wholeObservation(place, output, result);
  }

  async converge(place: HostPlace, request: ConvergeRequest, signal: AbortSignal): Promise<ConvergeResult> {
    const { transaction, fence, owner, artifacts } = request;
    const archive = packTransaction(transaction, artifacts);
    const nonce = newNonce();
    const args = [
      place.configDir,
      `${owner.uid}`,
      fence.authority,
      `${fence.epoch}`,
      `${fence.n}`,
      transaction.id,
      archive.sumsSha256,
      expectedOf(request),
      ...place.profile.disposable,
    ];
    const result = await place.target.run(['sh', '-c', APPLY, 'sh', 'apply', ...args], {
      as: owner,
      stdin: applyInput(nonce, archive.content),
      deadlineMs: APPLY_DEADLINE_MS,
      signal,
    });
    if (result.kind === 'unknown') throw unknownOutcome(`${where(place)}: ${result.message}`, result.cause);
    const output = parseScriptOutput(result.stdout, nonce, new Set());
    if (output === undefined)
      throw noShell(place, result) ?? unknownOutcome(`${where(place)}: ${broken(result)}`, stderrOf(result));
    requireSuccess(place, output);
    return {
      failed: new Map(
        output.failed.map(({ plugin, reason, why }) => [
          plugin,
          failure(`plugin ${plugin} on ${where(place)}`, reason, why),
        ]),
      ),
      kept: output.kept,
      observation: wholeObservation(place, output, result),
    };
  }
}

/** Without what is for readers, a third of it: up to three shells go through the text before it runs. */
function scriptOf(name: string): string {
  return readFileSync(new URL(`./${name}.sh`, import.meta.url), 'utf8').replaceAll(/^ *(#.*\n)?/gm, '');
}

/** What the script finds, besides what the operations expect. */
function expectedOf({ owner, expectsBlank = false, takenFrom }: ConvergeRequest): string {
  if (expectsBlank) return `blank:${owner.gid}`;
  return takenFrom === undefined ? 'seen' : `former:${takenFrom}`;
}

/** Unknown to the agent until the run, so that the end marker cannot be prepared. */
function newNonce(): string {
  return randomBytes(16).toString('hex');
}

async function* lookInput(nonce: string, candidates: ReadonlyMap<PluginName, TreeLists>): AsyncGenerator<Uint8Array> {
  yield Buffer.from(`${nonce}\n`);
  for (const [plugin, lists] of candidates) yield Buffer.from([...comparisonLines(plugin, lists)].join(''));
}

async function* applyInput(nonce: string, archive: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield Buffer.from(`${nonce}\n`);
  yield* inPieces(archive);
}

/** Headers and small files come in hundreds of chunks; each would be a message of its own on the way to a container. */
async function* inPieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    waiting.push(chunk);
    bytes += chunk.byteLength;
    if (bytes < PIECE_BYTES) continue;
    yield Buffer.concat(waiting);
    waiting = [];
    bytes = 0;
  }
  yield Buffer.concat(waiting);
}

function where(place: HostPlace): string {
  return place.configDir === '.' ? place.target.description : `${place.target.description}, ${place.configDir}`;
}

function requireSuccess(place: HostPlace, output: ScriptOutput): void {
  if (output.reason !== 'Succeeded') throw failure(where(place), output.reason, output.why);
}

function wholeObservation(place: HostPlace, output: ScriptOutput, result: Exited): Observation {
  if (output.observation !== undefined) return output.observation;
  throw transient(
    'ObserveFailed',
    `${where(place)}: the look at the target did not come through whole`,
    stderrOf(result),
  );
}

/** A reason that a script gave, as an error; one that it cannot give is a fault of ours. */
function failure(subject: string, word: string, why: string | undefined): ReconcileError {
  const errorClass = CLASSES.get(word);
  const reason = errorClass === undefined ? 'Internal' : (word as Reason);
  const text = why === undefined || why === '' ? REASONS[reason] : `${why}. ${REASONS[reason]}`;
  return new ReconcileError(errorClass ?? 'terminal', reason, `${subject}: ${text}`);
}

type Exited = Extract<RunResult, { kind: 'exited' }>;

/** Images without a shell exist, and there is nothing that a script could do about it. */
function noShell(place: HostPlace, result: Exited): ReconcileError | undefined {
  if ((result.code !== 127 && result.code !== 126) || result.stdout.byteLength > 0) return undefined;
  return terminal(
    'ToolMissing',
    `${where(place)}: sh cannot be run there (exit code ${result.code}); plugset needs a POSIX shell in the image`,
    stderrOf(result),
  );
}

function broken(result: Exited): string {
  return `the script ended with exit code ${result.code} and without its end marker`;
}

function stderrOf(result: Exited): Error {
  return new Error(result.stderr.subarray(0, 2000).toString('utf8'));
}
