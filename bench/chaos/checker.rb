# frozen_string_literal: true

module Chaos
  # Checks a history against the guarantees of tasker_core. Each rule returns descriptions of its violations.
  class Checker
    RULES = %i[lost_tasks ghosts stuck_tasks lost_results foreign_results revived wrong_results accepted_twice
               two_successes unexplained_duplicates lost_by_a_clock_jump accepted_from_isolated_hosts
               children_before_parents events_delivered_twice events_lost_or_made_up events_out_of_order
               broken_invariants leftovers].freeze

    # @param history [History]
    def initialize(history)
      @history = history
    end

    # @return [Hash{Symbol => Array<String>}] the violations by rule, without rules that have none
    def anomalies = RULES.to_h { |rule| [rule, send(rule)] }.reject { |_, stories| stories.empty? }

    # @return [Array<Disturbances::Entry>] times in which a host was cut off for so long that its processes must have
    #   been declared dead
    def isolations = @history.disturbances.undisturbed_cuts(DEAD)

    # @return [Array<Effects::Line>] ends of handlers on an isolated host
    def finished_in_isolation
      isolations.flat_map do |cut|
        ends.select { |line| cut.pids.include?(line.pid) && line.at.between?(cut.from + SENT, cut.to) && !gone?(line) }
      end
    end

    # Seconds without a connection after which a process is declared dead for certain: the process time-out, which
    # starts again when the clock has jumped, a sweep, the largest skew of a clock, and some for a busy machine.
    DEAD = 10
    # Seconds for which an outcome may have been on its way when the host was cut off.
    SENT = 0.1
    private_constant :DEAD, :SENT

    # @return [Integer] repeated executions of steps, each explained by the outcome of the one before
    def duplicates = executions.values.sum { |lines| lines.size - 1 }

    private

    # A task whose creation was committed exists, unless a fail-over lost the commit; its companion row exists exactly
    # if it does.
    def lost_tasks
      (@history.confirmed - ids - @history.gone.tasks.to_a).map { |id| "task #{id} was committed and is missing" } +
        (@history.created - ids).map { |id| "task #{id} is missing, but its companion row exists" } +
        (ids - @history.created).map { |id| "task #{id} exists, but its companion row is missing" }
    end

    # A task whose creation was rolled back neither exists nor runs.
    def ghosts
      ran = @history.effects.map(&:task)
      (@history.rolled_back & ids).map { |id| "task #{id} was rolled back but exists" } +
        (@history.rolled_back & ran).map { |id| "task #{id} was rolled back, but a handler ran" }
    end

    def stuck_tasks
      @history.tasks.select { |task| task.state == "pending" }.map { |task| "task #{task.id} never ended" }
    end

    # A handler's result is stored, unless its claim was taken, which is recorded, or a fail-over lost either.
    def lost_results
      ends.filter_map do |line|
        outcome = outcome_of(line)
        if outcome.nil?
          next if gone?(line)

          "#{describe(line)} ended, but has no record"
        elsif outcome == "failed" && !late?(line)
          "#{describe(line)} ended, but is recorded as failed"
        elsif outcome == "completed" && stored(line)&.fetch("token", nil) != line.token
          "#{describe(line)} was accepted, but the step has another result: #{stored(line).inspect}"
        end
      end
    end

    # A handler may be interrupted at its time limit (two seconds is the shortest) just after it has recorded its end.
    def late?(line) = line.at - started.fetch(line.execution).at > 1.9

    def outcome_of(line) = attempt_of[line.execution]&.outcome

    # @return [Boolean] whether neither its claim nor its outcome has survived a fail-over
    def gone?(line) = @history.gone.executions.include?(line.execution)

    def stored(line) = steps[[line.task, line.step]]&.result

    # A step has the result of its own handler: each result names its task and step.
    def foreign_results
      @history.steps.select { |step| step.result&.key?("token") }.filter_map do |step|
        of = step.result.values_at("task", "step")
        next if of == step.key

        "step #{step.name} of task #{step.task} has the result of step #{of.last} of task #{of.first}"
      end
    end

    # An attempt that a fail-over lost never ends: later outcomes of its handler are rejected.
    def revived
      @history.attempts.select { |attempt| gone?(attempt) }.map do |attempt|
        "token #{attempt.token} of step #{attempt.step} of task #{attempt.task} was lost in a fail-over, " \
          "but ended #{attempt.outcome}"
      end
    end

    # Each result is the right function of the stored results of the parents.
    def wrong_results
      numbers = @history.tasks.to_h { |task| [task.id, task.number] }
      @history.steps.filter_map do |step|
        next unless step.state == "complete" && step.result&.key?("token")

        right = Chaos.value(numbers.fetch(step.task), step.parents.map { |name| steps.fetch([step.task, name]).result })
        value = step.result["value"]
        "step #{step.name} of task #{step.task} is #{value} instead of #{right}" if value != right
      end
    end

    # A token permits one outcome, and an attempt is completed only if its handler ended.
    def accepted_twice
      several = attempts_by_token.select { |_, attempts| attempts.size > 1 }
      several.map { |token, attempts| "token #{token} ended #{attempts.map(&:outcome).join(' and ')}" } +
        completed.reject { |attempt| ended.key?(attempt.execution) }.map do |attempt|
          "token #{attempt.token} is recorded as completed, but its handler never ended"
        end
    end

    def two_successes
      several = completed.group_by(&:key).select { |_, attempts| attempts.size > 1 }
      several.map { |(task, step), attempts| "step #{step} of task #{task} succeeded #{attempts.size} times" }
    end

    # An execution that is not the last of its step failed, was lost or was released; or a fail-over lost it. The tokens
    # of the others are in the order of their claims.
    def unexplained_duplicates
      repeated = executions.values.flat_map do |lines|
        lines.reject { |line| gone?(line) }.sort_by(&:token).each_cons(2).to_a
      end
      repeated.reject { |line, _| %w[failed lost released].include?(outcome_of(line)) }.map do |line, following|
        "#{describe(line)} has the outcome #{outcome_of(line) || 'unknown'}, but #{describe(following)} followed it"
      end + unknown.map { |line| "#{describe(line)} started, but has no record" }
    end

    def unknown = starts.reject { |line| outcome_of(line) || gone?(line) }

    # A living worker loses no attempt because the database's clock jumps. If an attempt was lost at about that time,
    # another fault must have separated its worker from the database.
    def lost_by_a_clock_jump
      executions.values.flat_map do |lines|
        lines.select { |line| outcome_of(line) == "lost" }.filter_map do |line|
          till = [lines.map(&:at).find { |at| at > line.at }, line.at + LONGEST].compact.min
          next if !@history.disturbances.jump?(line.at, till) || @history.disturbances.touch?(line.pid, line.at, till)

          "#{describe(line)} was lost when the clock jumped, but its process was alive"
        end
      end
    end

    # No claim that has begun lasts longer, in seconds: a step's time limit, the lease's grace, and a sweep.
    LONGEST = 10
    private_constant :LONGEST

    # The processes of an isolated host are declared dead, and what their handlers finish in that time is rejected.
    def accepted_from_isolated_hosts
      finished_in_isolation.select { |line| outcome_of(line) == "completed" }.map do |line|
        "#{describe(line)} was accepted, but its host was isolated when it ended"
      end
    end

    # By the handlers' own clock, for parents whose handler ended them. What a fail-over lost came after some end of the
    # parent's.
    def children_before_parents
      starts.select { |line| steps.key?(line.task_and_step) }.flat_map do |line|
        steps.fetch(line.task_and_step).parents.filter_map do |name|
          done = gone?(line) ? first_ends[[line.task, name]] : stored_end(steps.fetch([line.task, name]))
          "#{describe(line)} started before its parent #{name} had ended" if done && done.at > line.at
        end
      end
    end

    def stored_end(step) = step.result && ended[[step.result["token"], *step.key]]

    def events_delivered_twice
      @history.delivered.group_by(&:event).select { |_, delivered| delivered.size > 1 }.map do |event, delivered|
        "event #{event} (#{delivered.first.name} of task #{delivered.first.task}) was delivered #{delivered.size} times"
      end
    end

    # Each ended attempt, and each task's creation and last end, has exactly one event.
    def events_lost_or_made_up
      received = @history.delivered.select { |event| OF_ATTEMPTS.key?(event.name) }
      received = received.map { |event| [event.task, event.step, OF_ATTEMPTS[event.name]] }.tally
      happened = @history.attempts.reject { |attempt| attempt.outcome == "released" }
      happened = happened.map { |attempt| [attempt.task, attempt.step, attempt.outcome == "completed"] }.tally
      wrong = (happened.keys | received.keys).reject { |key| happened[key] == received[key] }
      wrong.map do |task, step, success|
        counts = [happened, received].map { |tally| tally[[task, step, success]].to_i }
        format("step #{step} of task #{task} #{success ? 'completed' : 'failed'} %d times, with %d events", *counts)
      end + @history.tasks.filter_map { |task| wrong_events(task) }
    end

    OF_ATTEMPTS = { "step.completed" => true, "step.failed" => false, "step.retry_scheduled" => false }.freeze
    CREATED = "task.created"
    LAST = { "complete" => "task.completed", "error" => "task.failed", "cancelled" => "task.cancelled",
             "resolved_manually" => "task.resolved_manually" }.freeze
    DONE = %w[step.completed step.resolved_manually].freeze
    private_constant :OF_ATTEMPTS, :CREATED, :LAST, :DONE

    def wrong_events(task)
      names = events_of(task.id).map(&:name)
      return if names.first == CREATED && names.count(CREATED) == 1 && names.reverse.find do |name|
        LAST.value?(name)
      end == LAST[task.state]

      "task #{task.id} is #{task.state}, and its events were #{names.join(', ')}"
    end

    # The completion of a step is delivered after the completions of its parents.
    def events_out_of_order
      @history.tasks.flat_map do |task|
        done = Set.new
        events_of(task.id).filter_map do |event|
          early = event.name == "step.completed" && steps.fetch([task.id, event.step]).parents.find do |parent|
            !done.include?(parent)
          end
          done << event.step if DONE.include?(event.name)
          "step #{event.step} of task #{task.id} had its event before its parent #{early}" if early
        end
      end
    end

    def events_of(task) = (@events_of ||= @history.delivered.group_by(&:task)).fetch(task, [])

    def broken_invariants = @history.findings.map(&:to_s)

    def leftovers
      @history.leftovers.select { |_, rows| rows.positive? }.map { |table, rows| "#{rows} rows are left in #{table}" }
    end

    def describe(line)
      "attempt #{line.attempt} (token #{line.token}) of step #{line.step} of task #{line.task} in process #{line.pid}"
    end

    def ids = @ids ||= @history.tasks.map(&:id)

    def steps = @steps ||= @history.steps.to_h { |step| [step.key, step] }

    def attempts_by_token = @attempts_by_token ||= @history.attempts.group_by(&:token)

    def attempt_of = @attempt_of ||= @history.attempts.to_h { |attempt| [attempt.execution, attempt] }

    def completed = @completed ||= @history.attempts.select { |attempt| attempt.outcome == "completed" }

    def ends = @ends ||= @history.effects.select { |line| line.kind == "end" }

    def ended = @ended ||= ends.to_h { |line| [line.execution, line] }

    # By task and step; effects are in chronological order.
    def first_ends = @first_ends ||= ends.reverse.to_h { |line| [line.task_and_step, line] }

    def starts = @starts ||= @history.effects.select { |line| line.kind == "start" }

    def started = @started ||= starts.to_h { |line| [line.execution, line] }

    def executions = @executions ||= starts.group_by(&:task_and_step)
  end
end
