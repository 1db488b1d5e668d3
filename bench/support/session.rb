# frozen_string_literal: true

# The SQL functions that benchmarks need to prepare a measurement, over one connection.
class Session
  ENTRY = { name: "bench", hostname: "bench", pid: 1, queues: ["*"], heartbeat_timeout_ms: 86_400_000,
            lease_grace_ms: 86_400_000 }.freeze
  BATCH = 500

  def initialize(connection)
    @connection = connection
    @keys = 0
  end

  # @param text [String] a call, as in SQL
  # @return [Object] its result
  def call(text) = @connection.exec("select tasker_core_v1.#{text}").getvalue(0, 0)

  def json(object) = "#{@connection.escape_literal(JSON.generate(object))}::jsonb"

  # @return [Integer] the id of the workflow's version
  def register(workflow) = JSON.parse(call("register_workflow(#{json(JSON.parse(workflow.definition_json))})"))["id"]

  # @yieldparam number [Integer] the block returns the task's priority
  # @return [Array<Integer>] ids
  def create(workflow, count, **options, &priority)
    (0...count).each_slice(BATCH).flat_map do |numbers|
      JSON.parse(call("create_tasks(#{requests(workflow, numbers, **options, &priority)})")).map { _1["id"] }
    end
  end

  def requests(workflow, numbers, wait_until: nil, keys: false)
    named = { namespace: workflow.namespace, workflow: workflow.name, version: workflow.version }
    json(numbers.map do |number|
      { **named, input: { order_id: 42 }, wait_until: wait_until, idempotency_key: keys ? "order-#{@keys += 1}" : nil,
                 priority: block_given? ? yield(number) : 0 }
    end)
  end

  # @return [Integer] the id of a process that does not time out
  def process(**entry) = call("register_process(#{json(ENTRY.merge(entry))})").to_i

  # @return [Array<Hash>]
  def claim(process, count, queues = ["*"])
    JSON.parse(call("claim_steps(#{process}, '{#{queues.join(',')}}', #{count})"))
  end

  # Releases claims.
  def release(claims) = call("return_claims('{#{claims.map { _1['token'] }.join(',')}}', '0', 'shutdown')")
end
