# frozen_string_literal: true

module Fleet
  # GoodJob. A job that runs when its worker is killed runs again in another.
  class GoodJob < DatabaseBackend
    NAME = "good_job"
    TABLES = /\Agood_job/
    JOBS = "good_jobs"

    def prepare
      quietly { migration.new.exec_migration(ActiveRecord::Base.connection, :up) }
      self
    end

    def unfinished = sql("select count(*) from good_jobs where finished_at is null").getvalue(0, 0).to_i

    def duplicate_jobs
      columns = sql("select * from good_jobs limit 0").fields - %w[id active_job_id]
      sql(<<~SQL)
        insert into good_jobs (id, active_job_id, #{columns.join(', ')})
        select new, new, #{columns.join(', ')}
        from good_jobs cross join lateral (select gen_random_uuid() as new where id is not null) as copy
        where performed_at is null
      SQL
    end

    private

    def command = ruby(program("good_job"), "start", "--queues=#{@queues.join(',')}", "--threads=#{@threads}")

    def storage_variables = { "GOOD_JOB_SHUTDOWN_TIMEOUT" => "5" }

    # @return [Class]
    def migration
      template = File.read(templates("templates/install/migrations/create_good_jobs.rb.erb"))
      version = "[#{ActiveRecord::Migration.current_version}]"
      File.write("#{@directory}/migration.rb", template.sub("<%= migration_version %>", version))
      load "#{@directory}/migration.rb"
      CreateGoodJobs
    end
  end
end
