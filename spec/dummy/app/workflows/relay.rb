# frozen_string_literal: true

# Two steps of two queues, for two worker processes: the first starts another task, in a thread and a fiber of its own.
class Relay < TaskerCore::Workflow
  input required: { card: :string }
  step :start, queue: "relay_start"
  step :arrive, depends_on: :start, queue: "relay_arrive"

  def start(context)
    Rails.logger.info("relay starts")
    carried = Thread.new { Fiber.new { TaskerCore.correlation_id }.resume }.value
    task = RelayEnd.create!
    { carried: carried, headers: context.http_headers, task: task.id, card: context.input["card"] }
  end

  def arrive(context)
    context.logger.info("relay arrives")
    nil
  end
end
